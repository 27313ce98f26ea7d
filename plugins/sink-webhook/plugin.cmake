# What plugins/sink-webhook needs besides the ABI. Read by exj_tree_plugin (CMakeLists.txt): it
# links plugin_libraries and builds nothing when plugin_missing says what is not there.
pkg_check_modules(CURL IMPORTED_TARGET libcurl>=7.85)
pkg_check_modules(CRYPTO IMPORTED_TARGET libcrypto)
if(CURL_FOUND AND CRYPTO_FOUND)
  add_library(exj_sink_webhook_needs INTERFACE)
  target_compile_definitions(exj_sink_webhook_needs INTERFACE _GNU_SOURCE)
  target_compile_options(exj_sink_webhook_needs INTERFACE -Wconversion -Wcast-qual -Wformat=2
    -Wundef -Wwrite-strings -Wmissing-prototypes -Wstrict-prototypes
    $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation>)
  target_link_libraries(exj_sink_webhook_needs INTERFACE PkgConfig::CURL PkgConfig::CRYPTO)
  set(plugin_libraries exj_sink_webhook_needs)
else()
  set(plugin_missing "libcurl or libcrypto (libcurl4-openssl-dev, libssl-dev)")
endif()
