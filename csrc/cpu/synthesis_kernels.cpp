// Synthesis: chosen channels -> inverse DCT -> planes -> pixels.
#include "isa.h"
#include "store_rows.h"
#include "strips.h"
#include "transpose.h"

namespace freqops::cpu {
namespace {

// The coefficients of a tile in one channel after another: N contiguous elements where the grid is,
// any strides otherwise.
template <class acc, class T>
struct Input {
  const T* picture;
  int64_t stride_c, block;
  bool contiguous;
  int count;
  int64_t offset[kLanes<acc>];

  Input(const Synthesis<acc>& p, const Tile& tile)
      : picture(static_cast<const T*>(p.in.data) + tile.n * p.in.stride_n),
        stride_c(p.in.stride_c),
        block(tile.block),
        contiguous(p.in.stride_w == 1 && p.in.stride_h == p.in.width),
        count(tile.count) {
    int64_t by = tile.by, bx = tile.bx;
    for (int lane = 0; lane < count; ++lane) {
      offset[lane] = by * p.in.stride_h + bx * p.in.stride_w;
      if (++bx == p.in.width) bx = 0, ++by;
    }
  }

  FREQOPS_INLINE Vec<acc> operator()(int channel) const {
    const T* from = picture + channel * stride_c;
    if (contiguous) {
      // As many streams as channels: more than the hardware follows. Beyond the end is no fault.
      __builtin_prefetch(from + block + 2 * kLanes<acc>);
      if (count == kLanes<acc>) return load<acc>(from + block);
      return load_some<acc>(from + block, count);
    }
    T some[kLanes<acc>] = {};
    for (int lane = 0; lane < count; ++lane) some[lane] = from[offset[lane]];
    return load<acc>(some);
  }
};

// Vectors [y][u], lane = block.
template <class acc>
using HalfWay = Vec<acc>[kBlock][kBlock];

// The vertical inverse of a component whose coefficients are zero from row `rows` on.
template <int rows, class acc, class In>
__attribute__((noinline)) void vertical(const Synthesis<acc>& p, const In& in, int k,
                                        HalfWay<acc>& out) {
  for (int u = 0; u < p.columns[k]; ++u) {
    Vec<acc> x[kBlock] = {};
    for (int v = 0; v < rows; ++v) {
      const int coefficient = k * kCoefficients + v * kBlock + u;
      x[v] += p.bias[coefficient];
      for (int i = p.first[coefficient]; i < p.first[coefficient + 1]; ++i)
        x[v] += in(p.entries[i].channel) * p.entries[i].scale;
    }
    dct8_transposed<acc>(x);
    for (int y = 0; y < kBlock; ++y) out[y][u] = x[y];
  }
}

// The horizontal inverse, where columns are zero from `columns` on, to rows of 8 N pixels at a
// distance of `pitch`. `pairs`: 2x2 means instead of pixels.
template <bool pairs, int columns, class acc>
__attribute__((noinline)) void horizontal(const HalfWay<acc>& in, acc* out, int64_t pitch) {
  constexpr int step = pairs ? 2 : 1;
  for (int y = 0; y < kBlock; y += step) {
    Vec<acc> x[kBlock] = {};
    for (int u = 0; u < columns; ++u)
      x[u] = pairs ? (in[y][u] + in[y + 1][u]) * acc(.25) : in[y][u];
    dct8_transposed<acc>(x);
    if (pairs)
      for (int i = 0; i < kBlock; i += 2) x[i] = x[i + 1] = x[i] + x[i + 1];
    lanes_to_rows(x);
    for (int row = y; row < y + step; ++row)
      for (int i = 0; i < kBlock; ++i) store_vector(out + row * pitch + i * kLanes<acc>, x[i]);
  }
}

// Component k's plane.
template <class acc, class In>
void inverse(const Synthesis<acc>& p, const In& in, int k, acc* out, int64_t pitch) {
  if (p.rows[k] == 0) {
    for (int y = 0; y < kBlock; ++y)
      for (int i = 0; i < kBlock; ++i) store_vector(out + y * pitch + i * kLanes<acc>, Vec<acc>{});
    return;
  }
  HalfWay<acc> half;
  with_count(p.rows[k], [&](auto rows) { vertical<rows, acc>(p, in, k, half); });
  with_count(p.columns[k], [&](auto columns) {
    if (p.chroma == Chroma::k420 && k > 0)
      horizontal<true, columns, acc>(half, out, pitch);
    else
      horizontal<false, columns, acc>(half, out, pitch);
  });
}

// All planes of a tile.
template <class acc, class T>
__attribute__((noinline)) void inverse_tile(const Synthesis<acc>& p, const Tile& tile,
                                            acc* const (&planes)[kComponents], int64_t pitch) {
  const Input<acc, T> in(p, tile);
  for (int k = 0; k < kComponents; ++k) inverse(p, in, k, planes[k], pitch);
}

template <class acc>
void inverse_any(const Synthesis<acc>& p, const Tile& tile, acc* const (&planes)[kComponents],
                 int64_t pitch) {
  switch (p.in.type) {
    case Type::kHalf: return inverse_tile<acc, Half>(p, tile, planes, pitch);
    case Type::kBfloat16: return inverse_tile<acc, BFloat16>(p, tile, planes, pitch);
    case Type::kFloat: return inverse_tile<acc, float>(p, tile, planes, pitch);
    case Type::kDouble:
      if constexpr (sizeof(acc) == 8) return inverse_tile<acc, double>(p, tile, planes, pitch);
      return;
    case Type::kUint8: return;  // coefficients have no such type
  }
}

// Tile by tile, where no pixel depends on another tile.
template <class acc>
void run_tiles(const Synthesis<acc>& p, int64_t begin, int64_t end) {
  constexpr int width = kBlock * kLanes<acc>;
  alignas(64) acc planes[kComponents][kBlock * width];
  acc* const at[] = {planes[0], planes[1], planes[2]};
  for (int64_t i = begin; i < end; ++i) {
    const Tile tile = tile_at<acc>(i, p.in.height, p.in.width);
    inverse_any(p, tile, at, width);
    store_any<acc>(p, tile, {{planes[0], planes[1], planes[2]}, width});
  }
}

// Block row by block row, where the chroma of a block depends on its neighbours.
template <class acc>
void run_strips(const Synthesis<acc>& p, int64_t begin, int64_t end) {
  Strips<acc> strips(p.in.width);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t n = i / p.in.height, by = i % p.in.height;
    const int64_t above = by > 0 ? i - 1 : i, below = by + 1 < p.in.height ? i + 1 : i;
    for (int64_t strip = above; strip <= below; ++strip) {
      if (!strips.claim(strip)) continue;
      for (int64_t bx = 0; bx < p.in.width; bx += kLanes<acc>) {
        const Tile tile = strip_tile<acc>(n, strip % p.in.height, bx, p.in.width);
        acc* const at[] = {strips.plane(strip, 0, bx), strips.plane(strip, 1, bx),
                           strips.plane(strip, 2, bx)};
        inverse_any(p, tile, at, strips.pitch);
      }
    }
    strips.smooth(above, i, below);
    for (int64_t bx = 0; bx < p.in.width; bx += kLanes<acc>) {
      const Tile tile = strip_tile<acc>(n, by, bx, p.in.width);
      store_any<acc>(
          p, tile,
          {{strips.plane(i, 0, bx), strips.smoothed(1, bx), strips.smoothed(2, bx)}, strips.pitch});
    }
  }
}

template <class acc>
void synthesise(const Synthesis<acc>& p, int64_t begin, int64_t end) {
  if (p.chroma == Chroma::kDctnet)
    run_strips(p, begin, end);
  else
    run_tiles(p, begin, end);
  if (p.stream) order_stores();
}

template <class acc>
int64_t items(const Synthesis<acc>& p) {
  if (p.chroma == Chroma::kDctnet) return p.in.batch * p.in.height;
  return p.in.batch * tiles<acc>(p.in.height * p.in.width);
}

}  // namespace

void FREQOPS_ISA::synthesis(const Synthesis<float>& p, int64_t begin, int64_t end) {
  synthesise(p, begin, end);
}
void FREQOPS_ISA::synthesis(const Synthesis<double>& p, int64_t begin, int64_t end) {
  synthesise(p, begin, end);
}
int64_t FREQOPS_ISA::synthesis_items(const Synthesis<float>& p) { return items(p); }
int64_t FREQOPS_ISA::synthesis_items(const Synthesis<double>& p) { return items(p); }

}  // namespace freqops::cpu
