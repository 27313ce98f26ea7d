# For tests/coverage/run.sh, which gives it as CMAKE_PROJECT_exellix-jobs_INCLUDE: counters
# in the files of scope.txt and in nothing else. A plugin that counted could not be unloaded
# as one does that is shipped, and what nobody reads need not be written.
file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/scope.txt counted REGEX "^core/")
list(TRANSFORM counted REPLACE " .*" "")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
  ${CMAKE_CURRENT_LIST_DIR}/scope.txt)
list(TRANSFORM counted PREPEND ${CMAKE_SOURCE_DIR}/)
set_source_files_properties(${counted} PROPERTIES
  COMPILE_OPTIONS "--coverage;-fprofile-update=atomic")
