# freqops_cuda_architectures(<out> <wanted> <supported>)
#
# <wanted> is TORCH_CUDA_ARCH_LIST as PyTorch's own extensions read it: "8.0;9.0a 12.0+PTX". Empty
# means those of 8.0, 9.0, 10.0 and 12.0 that nvcc supports, the last also as PTX, from which newer
# devices compile. <supported> is what `nvcc --list-gpu-arch` prints: "compute_80 compute_90 ...".
# <out> receives CMake's form: "80-real;90a-real;120".
function(freqops_cuda_architectures out wanted supported)
  string(REGEX MATCHALL "[0-9]+" supported "${supported}")
  string(REGEX REPLACE "[ ,;]+" ";" wanted "${wanted}")
  list(REMOVE_ITEM wanted "")

  if(NOT wanted)
    foreach(version IN ITEMS 8.0 9.0 10.0 12.0)
      string(REPLACE "." "" number ${version})
      if(number IN_LIST supported)
        list(APPEND wanted ${version})
      endif()
    endforeach()
    if(NOT wanted)
      message(FATAL_ERROR "this nvcc supports none of the CUDA architectures 8.0, 9.0, 10.0, 12.0: "
                          "set TORCH_CUDA_ARCH_LIST, or FREQOPS_CUDA=off for a build without CUDA")
    endif()
    string(APPEND wanted "+PTX")
  endif()

  set(result "")
  foreach(item IN LISTS wanted)
    if(NOT item MATCHES "^([0-9]+)\\.([0-9])([af]?)(\\+PTX)?$")
      message(FATAL_ERROR "TORCH_CUDA_ARCH_LIST: expected items like 8.0, 9.0a or 12.0+PTX, got '${item}'")
    endif()
    set(number ${CMAKE_MATCH_1}${CMAKE_MATCH_2})
    set(architecture ${number}${CMAKE_MATCH_3})
    if(NOT number IN_LIST supported)
      message(FATAL_ERROR "TORCH_CUDA_ARCH_LIST: this nvcc does not support ${item}, only ${supported}")
    endif()
    if(CMAKE_MATCH_4)
      list(APPEND result ${architecture})
    else()
      list(APPEND result ${architecture}-real)
    endif()
  endforeach()
  list(REMOVE_DUPLICATES result)
  set(${out} "${result}" PARENT_SCOPE)
endfunction()
