// jpeg_gather on CUDA tensors, or under the emulation of tests/emulation on CPU tensors: ops.cpp
// says what all operators have in common.
#include "jpeg_gather.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "../gather.h"
#include "../ops.h"
#include "device_scope.h"
#include "prepare.h"

namespace freqops::cuda {

namespace {

bool aligned(const BlockView& blocks) {
  constexpr int64_t kElements = 16 / sizeof(int16_t);
  return reinterpret_cast<uintptr_t>(blocks.data) % 16 == 0 && blocks.stride_n % kElements == 0 &&
         blocks.stride_y % kElements == 0 && blocks.stride_x % kElements == 0;
}

// In as many launches as the number of runs takes; Params begin with the GatherParams.
template <class Params>
void launch_gathers(Params params, int64_t batch, int64_t rows, const DeviceScope& device) {
  const GatherParams all = params.all;
  const int64_t runs = (int64_t(all.columns) + kRun - 1) / kRun;
  for_each_launch(batch, rows, runs, [&](int64_t first, const Grid& grid) {
    params.all.grid = grid;
    params.all.result = advance(all.result, all.result_type, first * all.channels.count * all.area);
    for (int k = 0; k < kComponents; ++k) {
      const GatherSource& from = all.sources[k];
      GatherSource& to = params.all.sources[k];
      if (from.blocks != nullptr) to.blocks = from.blocks + first * from.stride_n;
      if (from.steps != nullptr) to.steps = from.steps + first * from.stride_steps;
    }
    check_launch(launch_gather(params, device.stream()));
  });
}

int log2_of(int factor) { return factor == 4 ? 2 : factor - 1; }

// The matrices of the first half of the parts of a block.
template <int kHalves>
void prepare_halves(int factor, float (&matrices)[kHalves][kCoefficients]) {
  const Scaling scaling(factor, factor, kBlock);
  for (int p = 0; p < factor / 2; ++p) {
    const BlockMatrix matrix = scaling.block(p).matrices[0];
    for (int i = 0; i < kCoefficients; ++i) matrices[p][i] = float(matrix[size_t(i)]);
  }
}

void gather_at_full_size(const GatherParams& all, const GatherArguments& arguments,
                         const Subsampling& subsampling, int64_t top, int64_t left, bool flip,
                         const DeviceScope& device) {
  FullSizeParams params{};
  params.all = all;
  params.top = top;
  params.left = left;
  params.mirrored = flip;
  for (int k = 0; k < kComponents; ++k) {
    const bool chroma = k > 0 && arguments.planes[k].blocks.data != nullptr;
    params.log_down[k] = uint8_t(chroma ? log2_of(subsampling.down) : 0);
    params.log_across[k] = uint8_t(chroma ? log2_of(subsampling.across) : 0);
    // Rows that are not mapped are read where a channel needs them.
    GatherSource& source = params.all.sources[k];
    if (params.log_down[k] == 0)
      for (int v = 0; v < kBlock; ++v) {
        bool needed = false;
        for (int u = 0; u < kBlock; ++u)
          needed |= (all.channels.present[k * kBlock + u] >> v & 1) != 0;
        if (!needed) source.rows &= uint8_t(~(1 << v));
      }
  }
  prepare_halves(subsampling.down, params.down);
  prepare_halves(subsampling.across, params.across);
  launch_gathers(params, arguments.batch, arguments.rows, device);
}

// Maps on their way to the device, one behind the other.
class Upload {
 public:
  // Where they will be, in words from the beginning.
  struct Place {
    size_t blocks, matrices;
  };

  Place add(const AxisMap& map) {
    const Place place{words_.size(), words_.size() + map.blocks.size()};
    append(map.blocks.data(), map.blocks.size() * sizeof(AxisMap::Block));
    std::vector<float> matrices(map.matrices.size());
    for (size_t i = 0; i < matrices.size(); ++i) {  // [matrix, u, v] to [matrix, v, u]
      const size_t u = i / kBlock % kBlock, v = i % kBlock;
      matrices[i - i % kCoefficients + v * kBlock + u] = map.matrices[i];
    }
    append(matrices.data(), matrices.size() * sizeof(float));
    return place;
  }

  // The memory that they are put in.
  Tensor run(const Tensor& like, const DeviceScope& device) const {
    constexpr int64_t kNumbers = sizeof(UploadWord) / sizeof(float);
    Tensor memory = torch::stable::empty({int64_t(words_.size()) * kNumbers}, ScalarType::Float,
                                         std::nullopt, like.device());
    auto* const to = static_cast<UploadWord*>(memory.mutable_data_ptr());
    for (size_t first = 0; first < words_.size(); first += kUploadWords) {
      UploadParams params{};
      params.to = to + first;
      params.count = int32_t(std::min(words_.size() - first, size_t(kUploadWords)));
      std::copy_n(words_.data() + first, params.count, params.words);
      check_launch(launch_upload(params, device.stream()));
    }
    return memory;
  }

 private:
  void append(const void* data, size_t bytes) {
    const size_t before = words_.size();
    words_.resize(before + bytes / sizeof(UploadWord));
    std::memcpy(words_.data() + before, data, bytes);
  }

  std::vector<UploadWord> words_;
};

void gather_scaled(const GatherParams& all, const GatherArguments& arguments, const Tensor& like,
                   const DeviceScope& device) {
  ScaledParams params{};
  params.all = all;
  Upload upload;
  Upload::Place down[kComponents], across[kComponents];
  for (int k = 0; k < kComponents; ++k) {
    const GatherPlane& plane = arguments.planes[k];
    if (plane.blocks.data == nullptr) continue;
    params.all.sources[k].rows &= uint8_t((1 << plane.down.used) - 1);
    if (k == 2) {  // Cb and Cr have the same maps
      down[k] = down[1];
      across[k] = across[1];
      continue;
    }
    down[k] = upload.add(plane.down);
    across[k] = upload.add(plane.across);
  }
  // Of this stream: once it is freed here, what takes it next runs behind these launches.
  const Tensor memory = upload.run(like, device);
  const auto* const words = static_cast<const UploadWord*>(memory.const_data_ptr());
  const auto at = [&](const Upload::Place& place) {
    return DeviceAxis{reinterpret_cast<const AxisMap::Block*>(words + place.blocks),
                      reinterpret_cast<const float*>(words + place.matrices)};
  };
  for (int k = 0; k < kComponents; ++k) {
    if (arguments.planes[k].blocks.data == nullptr) continue;
    params.down[k] = at(down[k]);
    params.across[k] = at(across[k]);
  }
  launch_gathers(params, arguments.batch, arguments.rows, device);
}

}  // namespace

Tensor jpeg_gather(const Tensor& y, const std::optional<Tensor>& cb,
                   const std::optional<Tensor>& cr, const std::optional<Tensor>& tables,
                   IntHeaderOnlyArrayRef channels, const std::optional<Tensor>& mean,
                   const std::optional<Tensor>& std, const std::string& subsampling,
                   IntHeaderOnlyArrayRef scale_y, IntHeaderOnlyArrayRef scale_x, int64_t top,
                   int64_t left, int64_t rows, int64_t columns, bool flip,
                   const std::string& dtype_name, bool channels_last) {
  constexpr const char* op = "jpeg_gather";
  check_channels(op, channels);
  check_statistic(op, "mean", mean, channels, y);
  check_statistic(op, "std", std, channels, y);
  const ScalarType dtype = dtype_named(op, dtype_name);
  const Type result_type = gather_type(op, dtype);

  const DeviceScope device(y);
  GatherArguments arguments = gather_arguments(op, y, cb, cr, tables, subsampling, scale_y, scale_x,
                                               top, left, rows, columns, flip);
  check_grid(op, rows, columns);
  const std::optional<Tensor> dense_mean = dense(mean), dense_std = dense(std);
  using torch::headeronly::MemoryFormat;
  Tensor out = torch::stable::empty(
      {arguments.batch, int64_t(channels.size()), rows, columns}, dtype, std::nullopt, y.device(),
      std::nullopt, channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
  if (out.numel() == 0) return out;
  make_maps(&arguments);

  GatherParams params{};
  params.result = out.mutable_data_ptr();
  params.result_type = result_type;
  params.channels_last = channels_last;
  params.area = int32_t(rows * columns);
  params.columns = int32_t(columns);
  params.channels = prepare_channels(channels, channels_last);
  params.mean = prepare_statistic(dense_mean);
  params.std = prepare_statistic(dense_std);
  for (int k = 0; k < kComponents; ++k) {
    const GatherPlane& plane = arguments.planes[k];
    const BlockView& b = plane.blocks;
    const bool read = b.data != nullptr && params.channels.columns[k] != 0;
    params.sources[k] = {b.data,      b.stride_n,         b.stride_y, b.stride_x,
                         plane.steps, plane.stride_steps, aligned(b), uint8_t(read ? 0xff : 0)};
  }
  const auto unscaled = [](IntHeaderOnlyArrayRef scales) {
    return std::all_of(scales.begin(), scales.end(), [](int64_t k) { return k == kBlock; });
  };
  if (unscaled(scale_y) && unscaled(scale_x)) {
    gather_at_full_size(params, arguments, subsampling_named(op, subsampling), top, left, flip,
                        device);
  } else {
    gather_scaled(params, arguments, y, device);
  }
  return out;
}

}  // namespace freqops::cuda

#if defined(FREQOPS_EMULATED)
STABLE_TORCH_LIBRARY_IMPL(freqops_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(freqops, CUDA, m) {
#endif
  m.impl("jpeg_gather", TORCH_BOX(&freqops::cuda::jpeg_gather));
}
