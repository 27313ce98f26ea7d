# What plugins/ffi needs besides the ABI. Read by exj_tree_plugin (CMakeLists.txt): it links
# plugin_libraries and builds nothing when plugin_missing says what is not there.
pkg_check_modules(FFI IMPORTED_TARGET libffi)
if(FFI_FOUND)
  # The manifest's reader is shared with the verifier: what both need.
  add_library(exj_ffi_needs INTERFACE)
  target_include_directories(exj_ffi_needs INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include
    ${CMAKE_SOURCE_DIR}/sdk/include)
  target_compile_definitions(exj_ffi_needs INTERFACE _GNU_SOURCE EXJ_VERSION="${PROJECT_VERSION}")
  target_compile_options(exj_ffi_needs INTERFACE -Wconversion -Wcast-qual -Wformat=2 -Wundef
    -Wwrite-strings -Wmissing-prototypes -Wstrict-prototypes
    $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation>)
  target_link_libraries(exj_ffi_needs INTERFACE PkgConfig::JANSSON Threads::Threads m)

  add_library(exj_ffi_plugin_needs INTERFACE)
  target_link_libraries(exj_ffi_plugin_needs INTERFACE exj_ffi_needs PkgConfig::FFI
    ${CMAKE_DL_LIBS})
  set(plugin_libraries exj_ffi_plugin_needs)
  add_subdirectory(${CMAKE_SOURCE_DIR}/plugins/ffi/verify)
else()
  set(plugin_missing "libffi (libffi-dev)")
endif()
