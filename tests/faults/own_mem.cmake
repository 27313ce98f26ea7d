# Short of memory, of threads, of descriptors, and clocks that jump (docs/testing.md): plain
# programs over one load. With a sanitizer the preloaded ones say that they cannot run.
add_library(faults_load STATIC mem_load.c)
target_link_libraries(faults_load PRIVATE exj_flags PUBLIC exj_support)
target_compile_definitions(faults_load PRIVATE EXJ_BINARY_DIR="${CMAKE_BINARY_DIR}")
foreach(name mem_daemon fd_daemon clock_daemon life_daemon)
  if(TARGET faults_${name})
    target_link_libraries(faults_${name} PRIVATE faults_load)
    add_dependencies(faults_${name} exellix-jobs exellix-jobs-plugin-host exj_short exj_pidfd
      testplugin_test_engine testplugin_test_source plugin_sink-file)
  endif()
endforeach()
if(TARGET faults_mem_jobs)
  target_link_libraries(faults_mem_jobs PRIVATE exj_embed)
  add_dependencies(faults_mem_jobs testplugin_test_engine testplugin_test_source)
endif()
