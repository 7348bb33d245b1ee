# `cmake --install`: the program, the libraries as find_package(weft), and the model and documents that the
# program looks for in share/weft. docs/embedding.md says how the package is used.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# What an embedding program links: a node with all its actors.
if(TARGET weft_actors)
  add_library(weft_node INTERFACE)
  target_link_libraries(weft_node INTERFACE weft_actors)
  set_target_properties(weft_node PROPERTIES EXPORT_NAME node)
endif()

set(weft_installed_targets)
set(weft_header_folders)
foreach(part base kernels kernels_cuda block policies wire schema client collective nccl_group device fabric engine machines tier actors node)
  if(TARGET weft_${part})
    list(APPEND weft_installed_targets weft_${part})
    get_target_property(weft_part_folder weft_${part} SOURCE_DIR)
    if(EXISTS ${weft_part_folder}/include)
      list(APPEND weft_header_folders ${weft_part_folder}/include/)
    endif()
  endif()
endforeach()

# Everything but the tests.
add_custom_target(product DEPENDS ${weft_installed_targets})
if(TARGET weft)
  add_dependencies(product weft)
  install(TARGETS weft RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

install(TARGETS ${weft_installed_targets} EXPORT weft_targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${weft_header_folders} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET weft_wire)
  install(DIRECTORY ${PROJECT_BINARY_DIR}/schema/generated/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
          FILES_MATCHING PATTERN "*.h")
endif()

set(weft_package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/weft)
install(EXPORT weft_targets NAMESPACE weft:: DESTINATION ${weft_package_folder})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/weft-config.cmake.in ${PROJECT_BINARY_DIR}/weft-config.cmake
                              INSTALL_DESTINATION ${weft_package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/weft-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/weft-config.cmake ${PROJECT_BINARY_DIR}/weft-config-version.cmake
              ${CMAKE_CURRENT_LIST_DIR}/FindCAF.cmake
        DESTINATION ${weft_package_folder})

install(DIRECTORY ${PROJECT_SOURCE_DIR}/models/recall DESTINATION ${CMAKE_INSTALL_DATADIR}/weft/models)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples/documents DESTINATION ${CMAKE_INSTALL_DATADIR}/weft/examples OPTIONAL)
