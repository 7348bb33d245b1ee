# The C++ Actor Framework, which comes without a CMake package before 0.18.
#
#   find_package(CAF [version] COMPONENTS core io openssl)
#
# gives the targets caf::core, caf::io and caf::openssl, visible in every folder, and CAF_VERSION. Without
# COMPONENTS all three are looked for.
if(NOT CAF_FIND_COMPONENTS)
  set(CAF_FIND_COMPONENTS core io openssl)
endif()

find_path(CAF_INCLUDE_DIR caf/all.hpp)
mark_as_advanced(CAF_INCLUDE_DIR)

# CAF_VERSION of the header is `major * 10000 + minor * 100 + patch`, written with leading zeros trimmed.
if(CAF_INCLUDE_DIR AND EXISTS ${CAF_INCLUDE_DIR}/caf/config.hpp)
  file(STRINGS ${CAF_INCLUDE_DIR}/caf/config.hpp _caf_version_line REGEX "^#define CAF_VERSION [0-9]+")
  if(_caf_version_line MATCHES "CAF_VERSION ([0-9]+)")
    math(EXPR _caf_major "${CMAKE_MATCH_1} / 10000")
    math(EXPR _caf_minor "${CMAKE_MATCH_1} / 100 % 100")
    math(EXPR _caf_patch "${CMAKE_MATCH_1} % 100")
    set(CAF_VERSION ${_caf_major}.${_caf_minor}.${_caf_patch})
  endif()
endif()

foreach(_caf_component IN LISTS CAF_FIND_COMPONENTS)
  find_library(CAF_${_caf_component}_LIBRARY caf_${_caf_component})
  mark_as_advanced(CAF_${_caf_component}_LIBRARY)
  if(CAF_${_caf_component}_LIBRARY)
    set(CAF_${_caf_component}_FOUND TRUE)
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CAF REQUIRED_VARS CAF_INCLUDE_DIR VERSION_VAR CAF_VERSION HANDLE_COMPONENTS)

if(CAF_FOUND)
  find_package(Threads REQUIRED GLOBAL)
  foreach(_caf_component IN LISTS CAF_FIND_COMPONENTS)
    if(CAF_${_caf_component}_FOUND AND NOT TARGET caf::${_caf_component})
      add_library(caf::${_caf_component} UNKNOWN IMPORTED GLOBAL)
      set_target_properties(caf::${_caf_component} PROPERTIES
        IMPORTED_LOCATION "${CAF_${_caf_component}_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${CAF_INCLUDE_DIR}")
    endif()
  endforeach()
  if(TARGET caf::core)
    set_property(TARGET caf::core APPEND PROPERTY INTERFACE_LINK_LIBRARIES Threads::Threads)
  endif()
  if(TARGET caf::io AND TARGET caf::core)
    set_property(TARGET caf::io APPEND PROPERTY INTERFACE_LINK_LIBRARIES caf::core)
  endif()
  if(TARGET caf::openssl AND TARGET caf::io)
    find_package(OpenSSL REQUIRED GLOBAL)
    set_property(TARGET caf::openssl APPEND PROPERTY INTERFACE_LINK_LIBRARIES
      caf::io OpenSSL::SSL OpenSSL::Crypto)
  endif()
endif()
