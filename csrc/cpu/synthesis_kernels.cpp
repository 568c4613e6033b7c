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
      if (count == kLanes<acc>) return load<acc>(from + block);
      return load_some<acc>(from + block, count);
    }
    T some[kLanes<acc>] = {};
    for (int lane = 0; lane < count; ++lane) some[lane] = from[offset[lane]];
    return load<acc>(some);
  }
};

// Component k's plane, by rows of 8 N pixels at a distance of `pitch`.
template <class acc, class In>
void inverse(const Synthesis<acc>& p, const In& in, int k, acc* rows_out, int64_t pitch) {
  constexpr int N = kLanes<acc>;
  const int rows = p.rows[k], columns = p.columns[k];
  const Vec<acc> zero = {};
  Vec<acc> half[kBlock][kBlock];  // [y][u]
  for (int u = 0; u < kBlock; ++u) {
    Vec<acc> x[kBlock];
    for (int v = 0; v < kBlock; ++v) {
      x[v] = zero;
      if (v >= rows || u >= columns) continue;
      const int coefficient = k * kCoefficients + v * kBlock + u;
      x[v] += p.bias[coefficient];
      for (int i = p.first[coefficient]; i < p.first[coefficient + 1]; ++i)
        x[v] += in(p.entries[i].channel) * p.entries[i].scale;
    }
    if (u < columns) dct8_transposed<acc>(x);
    for (int y = 0; y < kBlock; ++y) half[y][u] = x[y];
  }
  const bool pairs = p.chroma == Chroma::k420 && k > 0;
  for (int y = 0; y < kBlock; ++y) {
    Vec<acc> x[kBlock];
    for (int u = 0; u < kBlock; ++u) x[u] = half[y][u];
    if (pairs)
      for (int u = 0; u < kBlock; ++u) x[u] = (x[u] + half[y + 1][u]) * acc(.5);
    dct8_transposed<acc>(x);
    if (pairs)
      for (int u = 0; u < kBlock; u += 2) x[u] = x[u + 1] = (x[u] + x[u + 1]) * acc(.5);
    lanes_to_rows(x);
    for (int i = 0; i < kBlock; ++i) store_vector(rows_out + y * pitch + i * N, x[i]);
    if (pairs) {
      ++y;
      for (int i = 0; i < kBlock; ++i) store_vector(rows_out + y * pitch + i * N, x[i]);
    }
  }
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
