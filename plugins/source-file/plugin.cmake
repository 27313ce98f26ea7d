# What plugins/source-file needs besides the ABI. Read by exj_tree_plugin (CMakeLists.txt).
add_library(exj_source_file_needs INTERFACE)
target_compile_definitions(exj_source_file_needs INTERFACE _GNU_SOURCE)
target_compile_options(exj_source_file_needs INTERFACE -Wconversion -Wcast-qual -Wformat=2 -Wundef
  -Wwrite-strings -Wmissing-prototypes -Wstrict-prototypes
  $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation>)
set(plugin_libraries exj_source_file_needs)
