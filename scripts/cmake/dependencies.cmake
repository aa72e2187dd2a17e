find_package(Threads REQUIRED)
find_package(Boost 1.81 REQUIRED COMPONENTS json)
find_package(OpenSSL 3 REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(ZLIB REQUIRED)
find_package(spdlog REQUIRED)
find_package(fmt REQUIRED)
find_package(Catch2 REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(libseccomp REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET tomlplusplus)
pkg_check_modules(libidn REQUIRED IMPORTED_TARGET libidn)  # SASLprep
pkg_check_modules(libidn2 REQUIRED IMPORTED_TARGET libidn2)

# One set of Asio settings for the whole program: they change its ABI.
add_library(postrider_asio INTERFACE)
target_compile_definitions(postrider_asio INTERFACE
  BOOST_ASIO_SEPARATE_COMPILATION BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_DISABLE_BOOST_COROUTINE
  BOOST_ASIO_RECYCLING_ALLOCATOR_CACHE_SIZE=8)
target_link_libraries(postrider_asio INTERFACE Boost::headers Threads::Threads)

# USDT probes (base/probe.h). probed(FILE...): the sources that have some.
option(WITH_PROBES "Probes for bpftrace, perf and SystemTap, if sys/sdt.h is there" ON)
find_path(SDT_INCLUDE sys/sdt.h)
mark_as_advanced(SDT_INCLUDE)
if(NOT (WITH_PROBES AND SDT_INCLUDE))
  message(STATUS "Without probes")
endif()
function(probed)
  if(WITH_PROBES AND SDT_INCLUDE)
    set_property(SOURCE ${ARGN} APPEND PROPERTY COMPILE_DEFINITIONS POSTRIDER_PROBES)
  endif()
endfunction()
