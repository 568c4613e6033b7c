// What jpeg_gather of both backends checks, and the maps of its axes.
#pragma once

#include <string>

#include "axis_map.h"
#include "checks.h"

namespace freqops {

// Pixels of luma to one of chroma.
struct Subsampling {
  int down, across;
  bool gray;  // no Cb and Cr
};

inline Subsampling subsampling_named(const char* op, const std::string& name) {
  if (name == "4:4:4") return {1, 1, false};
  if (name == "4:2:2") return {1, 2, false};
  if (name == "4:4:0") return {2, 1, false};
  if (name == "4:2:0") return {2, 2, false};
  if (name == "4:1:1") return {1, 4, false};
  if (name == "gray") return {1, 1, true};
  STD_TORCH_CHECK(false, op,
                  ": subsampling must be \"4:4:4\", \"4:2:2\", \"4:4:0\", \"4:2:0\", \"4:1:1\" or "
                  "\"gray\", got \"",
                  name, "\"");
}

// Blocks of one component, [n, height, width, 64] int16, strides counted in elements.
struct BlockView {
  const int16_t* data;
  int64_t stride_n, stride_y, stride_x;
};

// A component of jpeg_gather: its blocks, what they are multiplied by, and the maps of its axes. Of
// a gray picture Cb and Cr have no blocks.
struct GatherPlane {
  BlockView blocks;      // data is null where there are none
  const int32_t* steps;  // [64] of the first picture, contiguous, or null: 1
  int64_t stride_steps;  // from picture to picture, 0 where all share them
  AxisRequest down_of, across_of;
  AxisMap down, across;  // by make_maps
};

struct GatherArguments {
  int64_t batch, rows, columns;  // of the result
  Tensor tables;                 // keeps the steps alive
  GatherPlane planes[kComponents];
};

// The kernels' name of a result's dtype.
inline Type gather_type(const char* op, ScalarType dtype) {
  STD_TORCH_CHECK(
      dtype == ScalarType::Float || dtype == ScalarType::Half || dtype == ScalarType::BFloat16, op,
      ": dtype must be float32, float16 or bfloat16, got ", dtype);
  return floating_type(op, "dtype", dtype);
}

inline void check_blocks(const char* op, const char* argument, const Tensor& t) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Short, op, ": ", argument, " must be int16, got ",
                  t.scalar_type());
  STD_TORCH_CHECK(t.dim() == 4 && t.size(3) == kCoefficients && t.stride(3) == 1, op, ": ",
                  argument, " must be [N, blocks_y, blocks_x, 64] without gaps in the last, got ",
                  shape_str(t));
  STD_TORCH_CHECK(t.size(1) >= 1 && t.size(2) >= 1, op, ": ", argument,
                  " must have at least one block, got ", shape_str(t));
}

// The grid after scaling.
inline int64_t check_scales(const char* op, const char* argument, int64_t blocks,
                            IntHeaderOnlyArrayRef scales) {
  STD_TORCH_CHECK(scales.size() >= 1, op, ": ", argument, " must have at least one entry");
  for (const int64_t k : scales) {
    STD_TORCH_CHECK(k >= 1 && k <= kMaxScale, op, ": ", argument,
                    " must lie in [1, 16], eighths, got ", k);
    STD_TORCH_CHECK(blocks < int64_t(1) << 40, op, ": ", argument, " must end below 2^40 blocks");
    blocks = scaled(blocks, k);
  }
  return blocks;
}

inline void check_part(const char* op, const char* axis, int64_t begin, int64_t count,
                       int64_t blocks) {
  STD_TORCH_CHECK(begin >= 0 && count >= 1 && begin <= blocks - count, op, ": ", axis,
                  " must lie within the ", blocks, " blocks of the scaled grid, got ", count,
                  " from ", begin, " on");
}

// All checks but those of channels, statistics and dtype.
inline GatherArguments gather_arguments(const char* op, const Tensor& y,
                                        const std::optional<Tensor>& cb,
                                        const std::optional<Tensor>& cr,
                                        const std::optional<Tensor>& tables,
                                        const std::string& subsampling_name,
                                        IntHeaderOnlyArrayRef scale_y,
                                        IntHeaderOnlyArrayRef scale_x, int64_t top, int64_t left,
                                        int64_t rows, int64_t columns, bool flip) {
  const Subsampling subsampling = subsampling_named(op, subsampling_name);
  check_blocks(op, "y", y);
  const int64_t batch = y.size(0), luma_h = y.size(1), luma_w = y.size(2);
  check_part(op, "top and rows", top, rows, check_scales(op, "scale_y", luma_h, scale_y));
  check_part(op, "left and columns", left, columns, check_scales(op, "scale_x", luma_w, scale_x));

  GatherArguments out{batch, rows, columns, y, {}};
  const Tensor* components[] = {&y, cb.has_value() ? &*cb : nullptr,
                                cr.has_value() ? &*cr : nullptr};
  const char* names[] = {"y", "cb", "cr"};
  const int count = subsampling.gray ? 1 : kComponents;
  if (tables.has_value()) {
    const Tensor& t = *tables;
    STD_TORCH_CHECK(t.scalar_type() == ScalarType::Int, op, ": tables must be int32, got ",
                    t.scalar_type());
    const bool shared = t.dim() == 2;
    STD_TORCH_CHECK((shared || (t.dim() == 3 && t.size(0) == batch)) &&
                        t.size(t.dim() - 2) == count && t.size(t.dim() - 1) == kCoefficients,
                    op, ": tables must be [", count, ", 64] or [", batch, ", ", count,
                    ", 64], got ", shape_str(t));
    STD_TORCH_CHECK(t.device() == y.device(), op, ": tables must be on the device of y");
    out.tables = t.is_contiguous() ? t : torch::stable::contiguous(t);
  }
  for (int k = 0; k < kComponents; ++k) {
    if (k >= count) {
      STD_TORCH_CHECK(components[k] == nullptr, op, ": ", names[k], " must be None for \"gray\"");
      continue;
    }
    STD_TORCH_CHECK(components[k] != nullptr, op, ": ", names[k], " must be a tensor for \"",
                    subsampling_name, "\", got None");
    const Tensor& t = *components[k];
    check_blocks(op, names[k], t);
    const int fy = k == 0 ? 1 : subsampling.down, fx = k == 0 ? 1 : subsampling.across;
    const int64_t height = (luma_h + fy - 1) / fy, width = (luma_w + fx - 1) / fx;
    STD_TORCH_CHECK(t.size(0) == batch && t.size(1) == height && t.size(2) == width, op, ": ",
                    names[k], " must be [", batch, ", ", height, ", ", width, ", 64] for \"",
                    subsampling_name, "\", got ", shape_str(t));
    STD_TORCH_CHECK(t.device() == y.device(), op, ": ", names[k], " must be on the device of y");
    GatherPlane& plane = out.planes[k];
    plane.blocks = {t.const_data_ptr<int16_t>(), t.stride(0), t.stride(1), t.stride(2)};
    if (tables.has_value()) {
      plane.steps = out.tables.const_data_ptr<int32_t>() + k * kCoefficients;
      plane.stride_steps = out.tables.dim() == 2 ? 0 : count * kCoefficients;
    }
    plane.down_of = {luma_h, fy, scale_y.data(), int(scale_y.size()), top, rows, false};
    plane.across_of = {luma_w, fx, scale_x.data(), int(scale_x.size()), left, columns, flip};
  }
  return out;
}

// Makes the maps, whose memory grows with the result's rows and columns: once there is one.
inline void make_maps(GatherArguments* arguments) {
  for (GatherPlane& plane : arguments->planes) {
    if (plane.blocks.data == nullptr) continue;
    plane.down = axis_map(plane.down_of);
    plane.across = axis_map(plane.across_of);
  }
}

}  // namespace freqops
