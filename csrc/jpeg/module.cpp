// freqops._jpeg: what freqops/jpeg.py calls. Errors carry the reason alone, jpeg.py names the
// source.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string>

// After <cstdio>, which it needs.
#include <jpeglib.h>

#include "read.h"

namespace py = pybind11;

namespace freqops::jpeg {
namespace {

class Unsupported : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Damaged : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// int16 [rows, columns, 64]: a view of what the decoder wrote, which the array keeps and frees.
py::array values_of(Plane* plane) {
  int16_t* values = plane->values.get();
  py::capsule owner(values, [](void* memory) { Free{}(static_cast<int16_t*>(memory)); });
  plane->values.release();
  constexpr py::ssize_t kItem = sizeof(int16_t);
  return py::array_t<int16_t>(
      {py::ssize_t{plane->rows}, py::ssize_t{plane->columns}, py::ssize_t{kBlock}},
      {plane->stride * kBlock * kItem, kBlock * kItem, kItem}, values, owner);
}

// int32 [components, 64]
py::array tables_of(const Picture& picture) {
  py::array_t<int32_t> tables({py::ssize_t{picture.components}, py::ssize_t{kBlock}});
  for (int i = 0; i < picture.components; ++i) {
    std::copy_n(picture.planes[i].table, kBlock, tables.mutable_data(i, 0));
  }
  return tables;
}

py::tuple read_bytes(const py::buffer& source, bool dequantize, bool tolerant,
                     uint64_t max_pixels) {
  // Holds the buffer until the end: a bytearray cannot be resized meanwhile.
  const py::buffer_info bytes = source.request();
  if (bytes.ndim != 1 || bytes.itemsize != 1 || bytes.strides[0] != 1) {
    throw py::value_error("source must be contiguous bytes");
  }
  Options options;
  options.dequantize = dequantize;
  options.tolerant = tolerant;
  options.max_pixels = max_pixels;

  Picture picture;
  std::string reason;
  Outcome outcome;
  {
    const py::gil_scoped_release released;
    outcome = read(static_cast<const uint8_t*>(bytes.ptr), static_cast<size_t>(bytes.size), options,
                   &picture, &reason);
  }
  switch (outcome) {
    case Outcome::kBroken: throw py::value_error(reason);
    case Outcome::kDamaged: throw Damaged(reason);
    case Outcome::kUnsupported: throw Unsupported(reason);
    case Outcome::kNoMemory:
      PyErr_SetString(PyExc_MemoryError, reason.c_str());
      throw py::error_already_set();
    case Outcome::kRead: break;
  }
  py::list planes;
  for (int i = 0; i < picture.components; ++i) planes.append(values_of(&picture.planes[i]));
  return py::make_tuple(planes, tables_of(picture), picture.subsampling, picture.height,
                        picture.width, picture.orientation, picture.progressive, picture.damage);
}

}  // namespace
}  // namespace freqops::jpeg

#define FREQOPS_TEXT(x) #x
#define FREQOPS_EXPANDED_TEXT(x) FREQOPS_TEXT(x)

PYBIND11_MODULE(_jpeg, module) {
  using namespace freqops::jpeg;
  py::register_exception<Unsupported>(module, "Unsupported", PyExc_ValueError);
  py::register_exception<Damaged>(module, "Damaged", PyExc_ValueError);
  module.attr("LIBJPEG_TURBO") = FREQOPS_EXPANDED_TEXT(LIBJPEG_TURBO_VERSION);
  module.attr("MAX_SCANS") = kMaxScans;
  module.def("read", &read_bytes, py::arg("source"), py::arg("dequantize"), py::arg("tolerant"),
             py::arg("max_pixels"));
}
