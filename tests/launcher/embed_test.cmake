# Installs weft into a scratch prefix, builds examples/embed against it and checks the answer of its node.
# Given: SOURCE_DIR, BUILD_DIR, SCRATCH_DIR, GENERATOR, CXX_COMPILER
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "failed (${status}): ${ARGN}\n${output}")
  endif()
endfunction()

file(REMOVE_RECURSE ${SCRATCH_DIR})
file(MAKE_DIRECTORY ${SCRATCH_DIR}/run)
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${SCRATCH_DIR}/prefix)
run(${CMAKE_COMMAND} -S ${SOURCE_DIR}/examples/embed -B ${SCRATCH_DIR}/build -G ${GENERATOR}
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=${CXX_COMPILER} -DCMAKE_PREFIX_PATH=${SCRATCH_DIR}/prefix)
run(${CMAKE_COMMAND} --build ${SCRATCH_DIR}/build)

# The installed program finds what was installed with it.
run(${SCRATCH_DIR}/prefix/bin/weft config example)

set(document ${SCRATCH_DIR}/prefix/share/weft/examples/documents/notes-of-koreth.txt)
execute_process(
  COMMAND ${SCRATCH_DIR}/build/weft_embed ${SCRATCH_DIR}/prefix/share/weft/models/recall ${document}
          "What is the current pass number of Caseth?"
  WORKING_DIRECTORY ${SCRATCH_DIR}/run
  RESULT_VARIABLE status OUTPUT_VARIABLE answer ERROR_VARIABLE complaints TIMEOUT 120)
string(STRIP "${answer}" answer)
if(NOT status EQUAL 0 OR NOT answer STREQUAL "4751")
  message(FATAL_ERROR "weft_embed: status ${status}, answer \"${answer}\" instead of \"4751\"\n${complaints}")
endif()
