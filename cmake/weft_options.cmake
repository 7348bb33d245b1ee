set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

option(WEFT_TESTS "build the tests" ON)
option(WEFT_CUDA "build the CUDA kernels where the toolkit is found" OFF)
set(WEFT_ONLY "" CACHE STRING "build only this part: kernels")
set(WEFT_SANITIZE "" CACHE STRING "sanitizers: address,undefined or thread")

# What every weft target is compiled with; third-party headers come in as SYSTEM and stay out of it.
add_library(weft_warnings INTERFACE)
target_compile_options(weft_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror)

if(WEFT_SANITIZE)
  add_compile_options(-fsanitize=${WEFT_SANITIZE} -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${WEFT_SANITIZE})
  # With the checks inserted, GCC 12 takes moved-from results for uninitialised ones.
  target_compile_options(weft_warnings INTERFACE -Wno-maybe-uninitialized)
  if(WEFT_SANITIZE MATCHES "undefined")
    # CAF's headers bind references to null for unit results.
    add_compile_options(-fno-sanitize=null -fno-sanitize-recover=undefined)
  endif()
endif()

# For code that is mostly CAF's templates: every check of a pointer is one in each of their thousands of
# instantiations, half of the time the compiler takes. Bytes are handled by hand in other folders.
add_library(weft_lean_checks INTERFACE)
if(WEFT_SANITIZE)
  target_compile_options(weft_lean_checks INTERFACE -Og)
  if(WEFT_SANITIZE MATCHES "undefined")
    target_compile_options(weft_lean_checks INTERFACE
      -fno-sanitize=vptr,alignment,object-size,nonnull-attribute,returns-nonnull-attribute)
  endif()
endif()

# Sources are named from the checkout, so that all checkouts share what was compiled in one, precompiled headers too.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
    CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE_PROGRAM})
endif()
