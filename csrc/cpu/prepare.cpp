#include "prepare.h"

#include <cmath>

#include "../math/color.h"
#include "isa.h"
#include "stream.h"

namespace freqops::cpu {

namespace {

double dct_scale(int64_t channel) {
  const int k = static_cast<int>(channel) % kCoefficients;
  return dct8_scale(k / kBlock) * dct8_scale(k % kBlock);
}

template <class acc>
void set_matrix(const double (&matrix)[3][3], double factor, bool transposed, acc (&out)[3][3]) {
  const ColorMatrix<acc> m = color_matrix<acc>(matrix, factor, transposed);
  for (int k = 0; k < 3; ++k) std::copy(m.m[k], m.m[k] + 3, out[k]);
}

// Sorts the positions of channels by a key below `keys`, otherwise in their order: position order[j]
// is the j-th, and those with key k are order[first[k]] ... order[first[k + 1] - 1].
template <int keys, class Key>
void sort_channels(IntHeaderOnlyArrayRef channels, const Key& key, uint8_t (&first)[keys + 1],
                   int (&order)[kChannels]) {
  int counts[keys] = {};
  for (const int64_t channel : channels) ++counts[key(channel)];
  first[0] = 0;
  for (int k = 0; k < keys; ++k) first[k + 1] = static_cast<uint8_t>(first[k] + counts[k]);
  uint8_t next[keys];
  std::copy(first, first + keys, next);
  for (size_t i = 0; i < channels.size(); ++i)
    order[next[key(channels[i])]++] = static_cast<int>(i);
}

int64_t bytes_of(const View& out) { return out.batch * out.stride_n * element_size(out.type); }

// Whether the kernels begin with the columns (params.h): not where planes of pixels are made first,
// for rounding or means of 2x2, and not with bytes unless chroma is smoothed across blocks.
bool begins_with_columns(const View& in, Chroma chroma, bool jpeg) {
  if (jpeg || chroma == Chroma::k420) return false;
  return in.type != Type::kUint8 || chroma == Chroma::kDctnet;
}

// Fills what both operators share; entry(i, channel) gives the scale and offset of position i.
template <class acc, class F>
Analysis<acc> analysis(View in, View out, IntHeaderOnlyArrayRef channels, Chroma chroma, bool jpeg,
                       const F& entry) {
  Analysis<acc> p = {};
  p.in = in;
  p.out = out;
  p.grid_h = blocks(in.height);
  p.grid_w = blocks(in.width);
  p.chroma = chroma;
  p.jpeg = jpeg;
  p.columns_first = begins_with_columns(in, chroma, jpeg);
  p.white = 1;
  const auto component = [](int64_t channel) { return static_cast<int>(channel) / kCoefficients; };
  const auto line = [&](int64_t channel) {
    const int k = static_cast<int>(channel) % kCoefficients;
    return p.columns_first ? k / kBlock : k % kBlock;
  };
  int order[kChannels];
  sort_channels<kComponents * kBlock>(
      channels, [&](int64_t channel) { return component(channel) * kBlock + line(channel); },
      p.first, order);
  for (size_t j = 0; j < channels.size(); ++j) {
    const int64_t channel = channels[order[j]];
    const int k = static_cast<int>(channel) % kCoefficients;
    p.entries[j] = entry(order[j], channel);
    p.entries[j].at = p.columns_first ? k % kBlock : k / kBlock;
    int& lines = p.lines[component(channel)];
    int& outputs = p.outputs[component(channel)][line(channel)];
    lines = std::max(lines, line(channel) + 1);
    outputs = std::max(outputs, p.entries[j].at + 1);
  }
  return p;
}

template <class acc, class F>
Synthesis<acc> synthesis(View in, View out, IntHeaderOnlyArrayRef channels, const F& entry) {
  Synthesis<acc> p = {};
  p.in = in;
  p.out = out;
  p.stream = is_streamed(out.data, bytes_of(out));
  int order[kChannels];
  sort_channels<kComponents * kBlock>(
      channels, [](int64_t channel) { return static_cast<int>(channel) / kBlock; }, p.first, order);
  for (size_t j = 0; j < channels.size(); ++j) p.entries[j] = entry(order[j], channels[order[j]]);
  return p;
}

// The coefficients that are not zero everywhere.
template <class acc>
void set_extent(Synthesis<acc>* p, IntHeaderOnlyArrayRef channels) {
  const auto count = [&](int channel) {
    const int component = channel / kCoefficients;
    p->rows[component] = std::max(p->rows[component], channel % kCoefficients / kBlock + 1);
    p->columns[component] = std::max(p->columns[component], channel % kBlock + 1);
  };
  for (const int64_t channel : channels) count(static_cast<int>(channel));
  for (int channel = 0; channel < kChannels; ++channel)
    if (p->bias[channel] != 0) count(channel);
}

}  // namespace

void check_values(const char* op, const Statistics& statistics) {
  for (int64_t i = 0; i < statistics.mean.count; ++i) {
    const double value = statistics.mean[i];
    STD_TORCH_CHECK(std::isfinite(value), op, ": mean must be finite, got ", value);
  }
  for (int64_t i = 0; i < statistics.std.count; ++i) {
    const double value = statistics.std[i];
    STD_TORCH_CHECK(value > 0 && std::isfinite(value), op,
                    ": std must be finite and greater than 0, got ", value);
  }
}

namespace {

// What pictures have besides `analysis`.
template <class acc>
void set_pictures(Analysis<acc>* p, bool jpeg, bool channels_last, bool linear) {
  const double white = p->in.type == Type::kUint8 ? 1 : kWhite;
  p->edge = Edge::kReplicate;
  p->channels_last = channels_last;
  // Rounded planes of pictures k / 255 are exact only if the product with 255 is rounded first.
  if (jpeg) p->white = acc(white);
  set_matrix(jpeg ? kRgbToYcbcrJpeg : kRgbToYcbcr, jpeg ? 1 : white, false, p->matrix);
  p->shift = linear ? 0 : acc(-kLevelShift);
}

}  // namespace

template <class acc>
Analysis<acc> analysis_of_images(View images, View out, IntHeaderOnlyArrayRef channels,
                                 const Statistics& statistics, Chroma chroma, bool jpeg,
                                 bool channels_last, bool linear) {
  jpeg = jpeg && !linear;
  auto p = analysis<acc>(images, out, channels, chroma, jpeg, [&](int i, int64_t channel) {
    const double std = statistics.std.at(i, channel);
    const double mean = linear ? 0 : statistics.mean.at(i, channel);
    const double dct = dct_scale(channel);
    return AnalysisEntry<acc>{acc((jpeg ? 1 : dct) / std), acc(-mean / std), acc(dct), i, 0};
  });
  p.stream = is_streamed(out.data, bytes_of(out));
  set_pictures(&p, jpeg, channels_last, linear);
  return p;
}

template <class acc>
Analysis<acc> analysis_of_gated(View image, View out, IntHeaderOnlyArrayRef channels,
                                const Statistics& statistics, const double* gates, Chroma chroma,
                                bool channels_last) {
  int64_t open[kChannels];
  int position[kChannels], count = 0;
  for (size_t i = 0; i < channels.size(); ++i) {
    if (gates[i] == 0) continue;
    open[count] = channels[i];
    position[count++] = int(i);
  }
  auto p =
      analysis<acc>(image, out, {open, size_t(count)}, chroma, false, [&](int j, int64_t channel) {
        const int i = position[j];
        const double std = statistics.std.at(i, channel);
        const double mean = statistics.mean.at(i, channel);
        const double dct = dct_scale(channel);
        return AnalysisEntry<acc>{acc(gates[i] * (dct / std)), acc(gates[i] * (-mean / std)),
                                  acc(dct), i, 0};
      });
  set_pictures(&p, false, channels_last, false);
  return p;
}

template <class acc>
Analysis<acc> analysis_of_gradient(View grad, View out, IntHeaderOnlyArrayRef channels,
                                   const Statistics& statistics) {
  auto p = analysis<acc>(grad, out, channels, Chroma::k444, false, [&](int i, int64_t channel) {
    const double std = statistics.std.at(i, channel);
    return AnalysisEntry<acc>{acc(dct_scale(channel) * std), 0, 1, i, 0};
  });
  p.stream = is_streamed(out.data, bytes_of(out));
  p.edge = Edge::kZero;
  set_matrix(kYcbcrToRgb, 1 / kWhite, true, p.matrix);
  return p;
}

template <class acc>
Synthesis<acc> synthesis_of_images(View coefficients, View out, IntHeaderOnlyArrayRef channels,
                                   const Statistics& statistics, bool linear) {
  auto p = synthesis<acc>(coefficients, out, channels, [&](int i, int64_t channel) {
    const double std = statistics.std.at(i, channel);
    return SynthesisEntry<acc>{acc(dct_scale(channel) * std), i, int(channel) % kBlock};
  });
  if (!linear && statistics.mean.data != nullptr) {
    if (statistics.mean.count == kChannels)
      for (int k = 0; k < kChannels; ++k) p.bias[k] = acc(dct_scale(k) * statistics.mean[k]);
    else
      for (size_t i = 0; i < channels.size(); ++i)
        p.bias[channels[i]] = acc(dct_scale(channels[i]) * statistics.mean[int64_t(i)]);
  }
  set_extent(&p, channels);
  const double white = out.type == Type::kUint8 ? 1 : 1 / kWhite;
  set_matrix(kYcbcrToRgb, white, false, p.matrix);
  p.shift = linear ? 0 : acc(white * kLevelShift);  // the first column of the matrix is 1, 1, 1
  return p;
}

template <class acc>
Synthesis<acc> synthesis_of_gradient(View grad, View out, IntHeaderOnlyArrayRef channels,
                                     const Statistics& statistics, Chroma chroma) {
  auto p = synthesis<acc>(grad, out, channels, [&](int i, int64_t channel) {
    const double std = statistics.std.at(i, channel);
    return SynthesisEntry<acc>{acc(dct_scale(channel) / std), i, int(channel) % kBlock};
  });
  set_extent(&p, channels);
  p.chroma = chroma;
  p.fold = true;
  set_matrix(kRgbToYcbcr, kWhite, true, p.matrix);
  return p;
}

template <class acc>
void launch(const Analysis<acc>& p) {
  const Kernels<acc> k = kernels<acc>();
  run_in_parallel(p.in, k.analysis_items(p),
                  [&](int64_t begin, int64_t end) { k.analysis(p, begin, end); });
}

template <class acc>
void launch(const Synthesis<acc>& p) {
  const Kernels<acc> k = kernels<acc>();
  run_in_parallel(p.out, k.synthesis_items(p),
                  [&](int64_t begin, int64_t end) { k.synthesis(p, begin, end); });
}

#define FREQOPS_INSTANTIATE(acc)                                                                 \
  template Analysis<acc> analysis_of_images<acc>(View, View, IntHeaderOnlyArrayRef,              \
                                                 const Statistics&, Chroma, bool, bool, bool);   \
  template Analysis<acc> analysis_of_gated<acc>(View, View, IntHeaderOnlyArrayRef,               \
                                                const Statistics&, const double*, Chroma, bool); \
  template Analysis<acc> analysis_of_gradient<acc>(View, View, IntHeaderOnlyArrayRef,            \
                                                   const Statistics&);                           \
  template Synthesis<acc> synthesis_of_images<acc>(View, View, IntHeaderOnlyArrayRef,            \
                                                   const Statistics&, bool);                     \
  template Synthesis<acc> synthesis_of_gradient<acc>(View, View, IntHeaderOnlyArrayRef,          \
                                                     const Statistics&, Chroma);                 \
  template void launch<acc>(const Analysis<acc>&);                                               \
  template void launch<acc>(const Synthesis<acc>&);

FREQOPS_INSTANTIATE(float)
FREQOPS_INSTANTIATE(double)

}  // namespace freqops::cpu
