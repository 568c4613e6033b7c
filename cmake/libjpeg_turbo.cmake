# freqops_find_libjpeg_turbo(<missing>)
#
# Looks for all that the JPEG reader is built from: Python's headers, pybind11, libjpeg-turbo.
# <missing> receives in words what was not found, or nothing. Besides:
#
#   pybind11::headers, pybind11_INCLUDE_DIR
#   libjpeg_turbo_include, libjpeg_turbo_library   folder of jpeglib.h, path of the library
#   libjpeg_turbo_version                          e.g. 2.1.5
#   libjpeg_turbo_linkage                          static, where libjpeg.a can be linked into a module,
#                                                  or shared
#   libjpeg_turbo_options                          of the linker, for such a module
macro(freqops_find_libjpeg_turbo missing)
  set(${missing} "")
  find_path(libjpeg_turbo_include jpeglib.h)
  if(NOT Python_Development.Module_FOUND)
    set(${missing} "the headers of Python ${Python_VERSION} were not found")
  elseif(NOT libjpeg_turbo_include)
    set(${missing} "libjpeg-turbo's jpeglib.h was not found")
  else()
    _freqops_libjpeg_turbo_version()
    _freqops_libjpeg_turbo_library()
    _freqops_pybind11()
    if(NOT libjpeg_turbo_version)
      set(${missing} "jpeglib.h does not compile, or is that of another libjpeg than libjpeg-turbo")
    elseif(NOT libjpeg_turbo_library)
      set(${missing} "a library that belongs to libjpeg-turbo's jpeglib.h was not found")
    elseif(NOT pybind11_FOUND)
      set(${missing} "pybind11 was not found")
    endif()
  endif()
endmacro()

# Its headers come from the Python environment, as its package does.
macro(_freqops_pybind11)
  execute_process(COMMAND "${Python_EXECUTABLE}" -m pybind11 --cmakedir
                  OUTPUT_VARIABLE pybind11_cmakedir OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(pybind11_cmakedir)
    find_package(pybind11 2.12 CONFIG QUIET PATHS "${pybind11_cmakedir}" NO_DEFAULT_PATH)
  endif()
endmacro()

# The preprocessor knows: jconfig.h, which has it, may lie elsewhere.
macro(_freqops_libjpeg_turbo_version)
  set(probe "${CMAKE_BINARY_DIR}/libjpeg_turbo_version.cpp")
  file(WRITE "${probe}" "#include <cstdio>\n#include <jpeglib.h>\nversion=LIBJPEG_TURBO_VERSION;\n")
  execute_process(COMMAND "${CMAKE_CXX_COMPILER}" -E -P "-I${libjpeg_turbo_include}" "${probe}"
                  OUTPUT_VARIABLE preprocessed ERROR_QUIET)
  set(libjpeg_turbo_version "")
  if(preprocessed MATCHES "version= *([0-9][0-9.]*);")
    set(libjpeg_turbo_version "${CMAKE_MATCH_1}")
  endif()
endmacro()

# Linked into a module as ours is: libjpeg.a first. PyInit__jpeg alone is exported. libjpeg's
# functions, linked in, are bound to one another and hidden: the process may hold libjpegs of Pillow,
# OpenCV and torchvision besides. Hidden, they need no more than a library made for executables, as
# Debian's is; -z text refuses code that would have to be changed when it is loaded.
macro(_freqops_libjpeg_turbo_library)
  set(libjpeg_turbo_library "")
  set(libjpeg_turbo_options "")
  if(NOT APPLE)
    set(libjpeg_turbo_options "-Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/exports_jpeg.map"
                              -Wl,--exclude-libs,ALL -Wl,-z,text)
  endif()
  find_library(libjpeg_turbo_static libjpeg.a HINTS "${libjpeg_turbo_include}/../lib")
  find_library(libjpeg_turbo_shared jpeg HINTS "${libjpeg_turbo_include}/../lib")
  set(probe "${CMAKE_BINARY_DIR}/libjpeg_turbo_link.cpp")
  file(WRITE "${probe}" [[
#include <cstdio>
#include <jpeglib.h>
extern "C" void* probe(jpeg_decompress_struct* cinfo) {
  jpeg_create_decompress(cinfo);
  cinfo->src->resync_to_restart = jpeg_resync_to_restart;
  jpeg_save_markers(cinfo, JPEG_APP0 + 1, 0xffff);
  jpeg_read_header(cinfo, TRUE);
  jpeg_read_coefficients(cinfo);
  jpeg_destroy_decompress(cinfo);
  return cinfo;
}
]])
  foreach(linkage IN ITEMS static shared)
    if(libjpeg_turbo_${linkage} AND NOT libjpeg_turbo_library)
      try_compile(
        libjpeg_turbo_${linkage}_links "${CMAKE_BINARY_DIR}/libjpeg_turbo_${linkage}" "${probe}"
        CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${libjpeg_turbo_include}" -DCMAKE_POSITION_INDEPENDENT_CODE=ON
        LINK_OPTIONS -shared ${libjpeg_turbo_options}
        LINK_LIBRARIES "${libjpeg_turbo_${linkage}}")
      if(libjpeg_turbo_${linkage}_links)
        set(libjpeg_turbo_library "${libjpeg_turbo_${linkage}}")
        set(libjpeg_turbo_linkage ${linkage})
      endif()
    endif()
  endforeach()
endmacro()
