# What examples/audit/nightly needs besides the ABI: the checks of the engine beside it.
# Read by exj_tree_plugin (CMakeLists.txt).
list(APPEND sources ${CMAKE_CURRENT_SOURCE_DIR}/audit/engine/verify.c
  ${CMAKE_CURRENT_SOURCE_DIR}/audit/engine/md5.c)
