// The transform where the gate is known in advance: of each picture the open channels alone.
#include <algorithm>

#include "../gate.h"
#include "../ops.h"
#include "isa.h"
#include "prepare.h"
#include "stream.h"
#include "values.h"

namespace freqops::cpu {

namespace {

template <class acc>
struct Gated {
  const View &in, &out;
  IntHeaderOnlyArrayRef channels;
  const Statistics& statistics;
  const Values& gate;
  Chroma chroma;
  bool channels_last, stream;
  Kernels<acc> kernels;
  int64_t per_picture;  // items: runs of blocks, as the analysis kernels count them

  // Items begin ... end - 1 of picture n.
  void picture(int64_t n, int64_t begin, int64_t end) const {
    double gates[kChannels];
    bool closed[kChannels], any_closed = false, any_open = false;
    for (int64_t c = 0; c < out.channels; ++c) {
      gates[c] = gate.at<acc>(n, c);  // a gate that is 0 in the type of the sums is closed
      closed[c] = gates[c] == 0;
      (closed[c] ? any_closed : any_open) = true;
    }
    const View picture_in = one(in, n), picture_out = one(out, n);
    if (any_open) {
      Analysis<acc> p = analysis_of_gated<acc>(picture_in, picture_out, channels, statistics, gates,
                                               chroma, channels_last);
      p.stream = stream;
      kernels.analysis(p, begin, end);
    }
    // In channels_last the analysis writes closed channels beside the open ones.
    if (!any_closed || (any_open && channels_last)) return;
    const int64_t grid = out.height * out.width, size = element_size(out.type);
    const int64_t first = begin * kItemBlocks<acc>;
    const int64_t bytes = (std::min(end * kItemBlocks<acc>, grid) - first) * size;
    char* const data = static_cast<char*>(picture_out.data);
    if (channels_last)
      kernels.clear(
          {data + first * out.channels * size, bytes * out.channels, 0, 1, closed, stream});
    else
      kernels.clear(
          {data + first * size, bytes, out.stride_c * size, out.channels, closed, stream});
  }

 private:
  static View one(const View& v, int64_t n) {
    View picture = v;
    picture.data = static_cast<char*>(v.data) + n * v.stride_n * element_size(v.type);
    picture.batch = 1;
    return picture;
  }
};

}  // namespace

Tensor block_dct_gated(const Tensor& images, const Tensor& gate, IntHeaderOnlyArrayRef channels,
                       const std::optional<Tensor>& mean, const std::optional<Tensor>& std,
                       const std::string& chroma_name, const std::string& dtype_name,
                       bool channels_last) {
  const char* op = "block_dct_gated";
  check_pictures(op, "images", images);
  check_channels(op, channels);
  check_statistic(op, "mean", mean, channels, images);
  check_statistic(op, "std", std, channels, images);
  const Statistics statistics(mean, std);
  check_values(op, statistics);
  const Type type = floating_or_uint8_type(op, "images", images.scalar_type());
  const ScalarType dtype = dtype_named(op, dtype_name);
  const Type out_type = floating_type(op, "dtype", dtype);
  const Chroma chroma = chroma_mode(op, chroma_name);
  const int64_t sizes[] = {images.size(0), int64_t(channels.size()), blocks(images.size(2)),
                           blocks(images.size(3))};
  check_per_channel(op, "gate", gate, Features{sizes[0], sizes[1], 0, false, out_type}, images);

  Tensor out = torch::stable::empty({sizes, 4}, dtype, std::nullopt, images.device(), std::nullopt,
                                    memory_format(channels_last));
  if (images.size(0) == 0) return out;

  const View in_view = input_view(images, type), out_view = output_view(out, out_type);
  const Values gates(op, "gate", gate);
  with_acc(in_view, out_view, [&](auto zero) {
    using acc = decltype(zero);
    const int64_t bytes = out.numel() * element_size(out_type);
    const int64_t per_picture = (sizes[2] * sizes[3] + kItemBlocks<acc> - 1) / kItemBlocks<acc>;
    const Gated<acc> gated{
        in_view,        out_view,   channels,      statistics,
        gates,          chroma,     channels_last, is_streamed(out_view.data, bytes),
        kernels<acc>(), per_picture};
    run_in_parallel(in_view, sizes[0] * per_picture, [&](int64_t begin, int64_t end) {
      while (begin < end) {
        const int64_t n = begin / per_picture, first = begin - n * per_picture;
        const int64_t last = std::min(per_picture, first + end - begin);
        gated.picture(n, first, last);
        begin += last - first;
      }
    });
  });
  return out;
}

}  // namespace freqops::cpu

STABLE_TORCH_LIBRARY_IMPL(freqops, CPU, m) {
  m.impl("block_dct_gated", TORCH_BOX(&freqops::cpu::block_dct_gated));
}
