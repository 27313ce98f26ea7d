# exellix_jobs_add_plugin(TARGET SOURCES a.c …): a module that exports one symbol.
function(exellix_jobs_add_plugin target)
  cmake_parse_arguments(P "" "" "SOURCES" ${ARGN})
  add_library(${target} MODULE ${P_SOURCES})
  set_target_properties(${target} PROPERTIES PREFIX "" SUFFIX ".so" C_VISIBILITY_PRESET hidden
    CXX_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fno-gnu-unique>)
  target_link_options(${target} PRIVATE -Wl,-z,now -Wl,-z,relro)
  if(TARGET exellix::plugin)
    target_link_libraries(${target} PRIVATE exellix::plugin)
  endif()
endfunction()
