// Analysis: pixels -> planes -> DCT -> chosen channels, a tile at a time.
#include "chroma.h"
#include "isa.h"

namespace freqops::cpu {
namespace {

// Outputs of a tile: channel i's N results start at at(i), count of them are wanted.
template <class T, class acc>
struct Output {
  const Analysis<acc>& p;
  T* first;  // channel 0
  int count;
  T* staged;    // [channels][N], where channels are the fastest in memory
  bool stream;  // whole aligned cache lines of a result larger than the caches

  FREQOPS_INLINE void operator()(int channel, Vec<acc> x) const {
    if (p.channels_last) {
      store<acc>(staged + channel * kLanes<acc>, x);
    } else if (count == kLanes<acc>) {
      T* to = first + channel * p.out.stride_c;
      if (stream)
        store_past_caches(to, x);
      else
        store<acc>(to, x);
    } else {
      store_some<acc>(first + channel * p.out.stride_c, x, count);
    }
  }

  void finish() const {
    if (!p.channels_last) return;
    const int channels = int(p.out.channels);
    for (int lane = 0; lane < count; ++lane)
      for (int channel = 0; channel < channels; ++channel)
        first[int64_t(lane) * channels + channel] = staged[channel * kLanes<acc> + lane];
  }
};

// Rows 0 ... kept - 1 of the vertical DCT of all columns.
template <int kept, class acc>
__attribute__((noinline)) void vertical(Vec<acc> (&plane)[kCoefficients]) {
  for (int u = 0; u < kBlock; ++u) {
    Vec<acc> x[kBlock];
    for (int y = 0; y < kBlock; ++y) x[y] = plane[y * kBlock + u];
    dct8<acc>(x);
    for (int v = 0; v < kept; ++v) plane[v * kBlock + u] = x[v];
  }
}

// The horizontal DCT of one row, its first `kept` outputs straight to the channels that want them.
template <int kept, class acc, class Out>
__attribute__((noinline)) void horizontal(const Analysis<acc>& p, int first, const Vec<acc>* row,
                                          const Out& out) {
  Vec<acc> x[kBlock];
  for (int u = 0; u < kBlock; ++u) x[u] = row[u];
  dct8<acc>(x);
#pragma GCC unroll 8
  for (int u = 0; u < kept; ++u) {
    for (int i = p.first[first + u]; i < p.first[first + u + 1]; ++i) {
      const AnalysisEntry<acc>& e = p.entries[i];
      if (p.jpeg)
        out(e.channel, round_even<acc>(x[u] * e.dct_scale) * e.scale + e.offset);
      else
        out(e.channel, x[u] * e.scale + e.offset);
    }
  }
}

template <class acc, class Out>
void transform(const Analysis<acc>& p, Planes<acc>& planes, const Out& out) {
  for (int k = 0; k < kComponents; ++k) {
    with_count(p.rows[k], [&](auto kept) { vertical<kept, acc>(planes[k]); });
    for (int v = 0; v < p.rows[k]; ++v)
      with_count(p.columns[k][v], [&](auto kept) {
        horizontal<kept, acc>(p, k * kCoefficients + v * kBlock, planes[k] + v * kBlock, out);
      });
  }
  out.finish();
}

template <class acc, class T>
__attribute__((noinline)) void load_tile(const Analysis<acc>& p, const Tile& tile,
                                         Planes<acc>& planes) {
  load_planes<acc, T>(p, tile, planes);
  smooth<acc, T>(p, tile, planes);
}

template <class acc>
void load_any(const Analysis<acc>& p, const Tile& tile, Planes<acc>& planes) {
  switch (p.in.type) {
    case Type::kUint8: return load_tile<acc, uint8_t>(p, tile, planes);
    case Type::kHalf: return load_tile<acc, Half>(p, tile, planes);
    case Type::kBfloat16: return load_tile<acc, BFloat16>(p, tile, planes);
    case Type::kFloat: return load_tile<acc, float>(p, tile, planes);
    case Type::kDouble:
      if constexpr (sizeof(acc) == 8) return load_tile<acc, double>(p, tile, planes);
  }
}

template <class T, class acc>
void run(const Analysis<acc>& p, int64_t begin, int64_t end) {
  alignas(64) Planes<acc> planes;
  alignas(64) T staged[kChannels * kLanes<acc>];
  const bool streamable =
      p.stream && is_line<T, acc> && !p.channels_last && p.out.stride_c * sizeof(T) % kLine == 0;
  for (int64_t i = begin; i < end; ++i) {
    const Tile tile = tile_at<acc>(i, p.grid_h, p.grid_w);
    load_any(p, tile, planes);
    T* first = static_cast<T*>(p.out.data) + tile.n * p.out.stride_n +
               tile.block * (p.channels_last ? p.out.channels : 1);
    const bool stream = streamable && reinterpret_cast<uintptr_t>(first) % kLine == 0;
    transform(p, planes, Output<T, acc>{p, first, tile.count, staged, stream});
  }
  if (streamable) order_stores();
}

template <class acc>
void analyse(const Analysis<acc>& p, int64_t begin, int64_t end) {
  switch (p.out.type) {
    case Type::kHalf: return run<Half>(p, begin, end);
    case Type::kBfloat16: return run<BFloat16>(p, begin, end);
    case Type::kFloat: return run<float>(p, begin, end);
    case Type::kDouble:
      if constexpr (sizeof(acc) == 8) return run<double>(p, begin, end);
      return;
    case Type::kUint8: return;  // coefficients have no such type
  }
}

template <class acc>
int64_t items(const Analysis<acc>& p) {
  return p.in.batch * tiles<acc>(p.grid_h * p.grid_w);
}

}  // namespace

void FREQOPS_ISA::analysis(const Analysis<float>& p, int64_t begin, int64_t end) {
  analyse(p, begin, end);
}
void FREQOPS_ISA::analysis(const Analysis<double>& p, int64_t begin, int64_t end) {
  analyse(p, begin, end);
}
int64_t FREQOPS_ISA::analysis_items(const Analysis<float>& p) { return items(p); }
int64_t FREQOPS_ISA::analysis_items(const Analysis<double>& p) { return items(p); }

}  // namespace freqops::cpu
