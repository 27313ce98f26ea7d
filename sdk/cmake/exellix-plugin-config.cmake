# find_package(exellix-plugin): the target exellix::plugin (headers only) and the function
# exellix_jobs_add_plugin.
get_filename_component(_exellix_here "${CMAKE_CURRENT_LIST_FILE}" PATH)
include("${_exellix_here}/exellix-plugin-targets.cmake")
include("${_exellix_here}/ExellixPlugin.cmake")
unset(_exellix_here)
