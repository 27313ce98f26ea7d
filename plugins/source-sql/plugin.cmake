# What plugins/source-sql needs besides the ABI. Read by exj_tree_plugin (CMakeLists.txt).
add_library(exj_source_sql_needs INTERFACE)
target_compile_definitions(exj_source_sql_needs INTERFACE _GNU_SOURCE)
target_compile_options(exj_source_sql_needs INTERFACE -Wconversion -Wcast-qual -Wformat=2 -Wundef
  -Wwrite-strings -Wmissing-prototypes -Wstrict-prototypes
  $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation>)
target_link_libraries(exj_source_sql_needs INTERFACE PkgConfig::SQLITE m)
set(plugin_libraries exj_source_sql_needs)
