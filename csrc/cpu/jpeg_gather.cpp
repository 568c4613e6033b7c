#include "../gather.h"

#include <algorithm>
#include <numeric>

#include "../ops.h"
#include "isa.h"
#include "prepare.h"

namespace freqops::cpu {

Tensor jpeg_gather(const Tensor& y, const std::optional<Tensor>& cb,
                   const std::optional<Tensor>& cr, const std::optional<Tensor>& tables,
                   IntHeaderOnlyArrayRef channels, const std::optional<Tensor>& mean,
                   const std::optional<Tensor>& std, const std::string& subsampling,
                   IntHeaderOnlyArrayRef scale_y, IntHeaderOnlyArrayRef scale_x, int64_t top,
                   int64_t left, int64_t rows, int64_t columns, bool flip,
                   const std::string& dtype_name, bool channels_last) {
  const char* op = "jpeg_gather";
  check_channels(op, channels);
  check_statistic(op, "mean", mean, channels, y);
  check_statistic(op, "std", std, channels, y);
  const Statistics statistics(mean, std);
  check_values(op, statistics);
  const ScalarType dtype = dtype_named(op, dtype_name);
  const Type out_type = gather_type(op, dtype);
  GatherArguments arguments = gather_arguments(op, y, cb, cr, tables, subsampling, scale_y, scale_x,
                                               top, left, rows, columns, flip);

  const int64_t sizes[] = {y.size(0), int64_t(channels.size()), rows, columns};
  Tensor out = torch::stable::empty({sizes, 4}, dtype, std::nullopt, y.device(), std::nullopt,
                                    channels_last ? torch::headeronly::MemoryFormat::ChannelsLast
                                                  : torch::headeronly::MemoryFormat::Contiguous);
  if (y.size(0) == 0) return out;
  make_maps(&arguments);

  Gather p{};
  p.out = output_view(out, out_type);
  p.channels_last = channels_last;
  for (int k = 0; k < kComponents; ++k) {
    const GatherPlane& plane = arguments.planes[k];
    const BlockView& b = plane.blocks;
    p.components[k] = {b.data,
                       b.stride_n,
                       b.stride_y,
                       b.stride_x,
                       plane.steps,
                       plane.stride_steps,
                       AxisView(plane.down),
                       AxisView(plane.across),
                       0};
  }
  // In the order of the coefficients.
  int order[kChannels];
  const int count = int(channels.size());
  std::iota(order, order + count, 0);
  std::stable_sort(order, order + count, [&](int a, int b) { return channels[a] < channels[b]; });
  int next = 0;
  for (int line = 0; line < kComponents * kBlock; ++line) {
    p.first[line] = uint8_t(next);
    for (; next < count && channels[order[next]] / kBlock == line; ++next) {
      const int64_t channel = channels[order[next]];
      const double std_value = statistics.std.at(order[next], channel);
      const double mean_value = statistics.mean.at(order[next], channel);
      p.entries[next] = {float(1 / std_value), float(-mean_value / std_value), uint8_t(order[next]),
                         uint8_t(channel % kBlock)};
      p.components[line / kBlock].rows = line % kBlock + 1;
    }
  }
  p.first[kComponents * kBlock] = uint8_t(count);

  const Kernels<float> k = kernels<float>();
  const View pixels = {
      nullptr, Type::kFloat, y.size(0), 0, kBlock * rows, kBlock * columns, 0, 0, 0, 0};
  run_in_parallel(pixels, k.gather_items(p),
                  [&](int64_t begin, int64_t end) { k.gather(p, begin, end); });
  return out;
}

}  // namespace freqops::cpu

STABLE_TORCH_LIBRARY_IMPL(freqops, CPU, m) {
  m.impl("jpeg_gather", TORCH_BOX(&freqops::cpu::jpeg_gather));
}
