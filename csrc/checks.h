// Checks that memory safety needs, for both backends. Each names operator and argument and prints
// what it got; what only the user's meaning needs is checked in Python.
#pragma once

#include <cstdint>
#include <optional>
#include <sstream>
#include <string>

#include "plan.h"
#include "stable.h"

namespace freqops {

using torch::headeronly::IntHeaderOnlyArrayRef;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// "[2, 3, 8, 8]"
inline std::string shape_str(const Tensor& t) {
  std::ostringstream out;
  out << '[';
  for (int64_t i = 0; i < t.dim(); ++i) out << (i ? ", " : "") << t.size(i);
  out << ']';
  return out.str();
}

inline ScalarType dtype_named(const char* op, const std::string& name) {
  if (name == "float32") return ScalarType::Float;
  if (name == "float64") return ScalarType::Double;
  if (name == "float16") return ScalarType::Half;
  if (name == "bfloat16") return ScalarType::BFloat16;
  if (name == "uint8") return ScalarType::Byte;
  STD_TORCH_CHECK(false, op,
                  ": dtype must be \"float32\", \"float64\", \"float16\", \"bfloat16\" or, of "
                  "pictures, \"uint8\", got \"",
                  name, "\"");
}

// The kernels' name of a floating-point dtype.
inline Type floating_type(const char* op, const char* argument, ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Half: return Type::kHalf;
    case ScalarType::BFloat16: return Type::kBfloat16;
    case ScalarType::Float: return Type::kFloat;
    case ScalarType::Double: return Type::kDouble;
    default:
      STD_TORCH_CHECK(false, op, ": ", argument,
                      " must be float16, bfloat16, float32 or float64, got ", dtype);
  }
}

inline Type floating_or_uint8_type(const char* op, const char* argument, ScalarType dtype) {
  if (dtype == ScalarType::Byte) return Type::kUint8;
  switch (dtype) {
    case ScalarType::Half:
    case ScalarType::BFloat16:
    case ScalarType::Float:
    case ScalarType::Double: return floating_type(op, argument, dtype);
    default:
      STD_TORCH_CHECK(false, op, ": ", argument,
                      " must be uint8, float16, bfloat16, float32 or float64, got ", dtype);
  }
}

inline Chroma chroma_mode(const char* op, const std::string& name) {
  Chroma chroma = Chroma::k444;
  STD_TORCH_CHECK(parse_chroma(name.c_str(), &chroma), op,
                  ": chroma must be \"4:4:4\", \"4:2:0\" or \"dctnet\", got \"", name, "\"");
  return chroma;
}

// True for "jpeg".
inline bool rounding_mode(const char* op, const std::string& name) {
  STD_TORCH_CHECK(name == "none" || name == "jpeg", op,
                  ": rounding must be \"none\" or \"jpeg\", got \"", name, "\"");
  return name == "jpeg";
}

inline void check_pictures(const char* op, const char* argument, const Tensor& t) {
  STD_TORCH_CHECK(t.dim() == 4 && t.size(1) == kComponents, op, ": ", argument,
                  " must be [N, 3, H, W], got ", shape_str(t));
  STD_TORCH_CHECK(t.size(2) >= 1 && t.size(3) >= 1, op, ": ", argument,
                  " must have at least one pixel, got ", shape_str(t));
}

inline void check_channels(const char* op, IntHeaderOnlyArrayRef channels) {
  const auto count = static_cast<int64_t>(channels.size());
  STD_TORCH_CHECK(count >= 1 && count <= kChannels, op,
                  ": channels must have 1 to 192 entries, got ", count);
  for (const int64_t channel : channels)
    STD_TORCH_CHECK(channel >= 0 && channel < kChannels, op,
                    ": channels must lie in [0, 192), got ", channel);
}

inline void check_distinct(const char* op, IntHeaderOnlyArrayRef channels) {
  bool seen[kChannels] = {};
  for (const int64_t channel : channels) {
    STD_TORCH_CHECK(!seen[channel], op, ": channels must be distinct, got ", channel, " twice");
    seen[channel] = true;
  }
}

inline void check_coefficients(const char* op, const char* argument, const Tensor& t,
                               IntHeaderOnlyArrayRef channels) {
  const auto count = static_cast<int64_t>(channels.size());
  STD_TORCH_CHECK(t.dim() == 4 && t.size(1) == count, op, ": ", argument, " must be [N, ", count,
                  ", H, W] for ", count, " channels, got ", shape_str(t));
  STD_TORCH_CHECK(t.size(2) >= 1 && t.size(3) >= 1, op, ": ", argument,
                  " must have at least one block, got ", shape_str(t));
}

// mean or std: [C] by position or [192] by channel number, on the device of `where`.
inline void check_statistic(const char* op, const char* argument, const std::optional<Tensor>& t,
                            IntHeaderOnlyArrayRef channels, const Tensor& where) {
  if (!t.has_value()) return;
  const auto count = static_cast<int64_t>(channels.size());
  STD_TORCH_CHECK(t->dim() == 1 && (t->size(0) == count || t->size(0) == kChannels), op, ": ",
                  argument, " must be [", count, "] or [192], got ", shape_str(*t));
  STD_TORCH_CHECK(t->scalar_type() == ScalarType::Float || t->scalar_type() == ScalarType::Double,
                  op, ": ", argument, " must be float32 or float64, got ", t->scalar_type());
  STD_TORCH_CHECK(t->device() == where.device(), op, ": ", argument,
                  " must be on the device of the other tensors");
}

// A picture of height x width has exactly this many blocks.
inline void check_covers(const char* op, int64_t height, int64_t width, const Tensor& t) {
  const auto covers = [](int64_t pixels, int64_t grid) {
    return pixels > kBlock * (grid - 1) && pixels <= kBlock * grid;
  };
  STD_TORCH_CHECK(covers(height, t.size(2)) && covers(width, t.size(3)), op,
                  ": height and width must fit the blocks of ", shape_str(t), ", got ", height,
                  " x ", width);
}

// A picture of height x width can be cut from the blocks.
inline void check_within(const char* op, int64_t height, int64_t width, const Tensor& t) {
  STD_TORCH_CHECK(
      height >= 1 && height <= kBlock * t.size(2) && width >= 1 && width <= kBlock * t.size(3), op,
      ": height and width must lie within the blocks of ", shape_str(t), ", got ", height, " x ",
      width);
}

inline View view(const Tensor& t, Type type, void* data) {
  return {data,      type,        t.size(0),   t.size(1),   t.size(2),
          t.size(3), t.stride(0), t.stride(1), t.stride(2), t.stride(3)};
}

inline View input_view(const Tensor& t, Type type) {
  return view(t, type, const_cast<void*>(t.const_data_ptr()));
}

inline View output_view(const Tensor& t, Type type) { return view(t, type, t.mutable_data_ptr()); }

}  // namespace freqops
