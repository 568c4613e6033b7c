// Synthesis: chosen channels -> inverse DCT -> planes -> pixels.
#include "isa.h"
#include "store_rows.h"
#include "strips.h"
#include "transpose.h"

namespace freqops::cpu {
namespace {

// The coefficients of a tile in one channel after another, where the grid is contiguous and the tile
// whole: N elements of memory.
template <class acc, class T>
struct WholeInput {
  const T* first;
  int64_t stride_c;

  FREQOPS_INLINE Vec<acc> operator()(int channel) const {
    const T* from = first + channel * stride_c;
    prefetch<1>(from + 2 * kLanes<acc>);
    return load<acc>(from);
  }
};

// The same with any strides.
template <class acc, class T>
struct AnyInput {
  const T* picture;
  int64_t stride_c;
  int count;
  int64_t offset[kLanes<acc>];

  AnyInput(const Synthesis<acc>& p, const Tile& tile, const T* picture)
      : picture(picture), stride_c(p.in.stride_c), count(tile.count) {
    int64_t by = tile.by, bx = tile.bx;
    for (int lane = 0; lane < count; ++lane) {
      offset[lane] = by * p.in.stride_h + bx * p.in.stride_w;
      if (++bx == p.in.width) bx = 0, ++by;
    }
  }

  FREQOPS_INLINE Vec<acc> operator()(int channel) const {
    T some[kLanes<acc>] = {};
    for (int lane = 0; lane < count; ++lane)
      some[lane] = picture[channel * stride_c + offset[lane]];
    return load<acc>(some);
  }
};

// f with the input of a tile.
template <class acc, class T, class F>
FREQOPS_INLINE void with_input(const Synthesis<acc>& p, const Tile& tile, const F& f) {
  const T* picture = static_cast<const T*>(p.in.data) + tile.n * p.in.stride_n;
  if (p.in.stride_w == 1 && p.in.stride_h == p.in.width && tile.count == kLanes<acc>)
    f(WholeInput<acc, T>{picture + tile.block, p.in.stride_c});
  else
    f(AnyInput<acc, T>(p, tile, picture));
}

// Rows v of a component or colour of a tile, turned to memory's order: [v][i] are pixels i N to
// i N + N - 1 of the tile, transformed along the rows.
template <class acc>
using HalfWay = Vec<acc>[kBlock][kBlock];

// The inverse along a row whose coefficients are zero from column `columns` on. `pairs`: pairs of
// pixels are replaced by their mean.
template <bool pairs, int columns, class acc>
__attribute__((noinline)) void inverse_row(const Vec<acc> (&row)[kBlock], Vec<acc> (&out)[kBlock]) {
  Vec<acc> x[kBlock] = {};
  for (int u = 0; u < columns; ++u) x[u] = row[u];
  dct8_transposed<acc>(x);
  if (pairs)
    for (int i = 0; i < kBlock; i += 2) x[i] = x[i + 1] = (x[i] + x[i + 1]) * acc(.5);
  lanes_to_rows(x);
  for (int i = 0; i < kBlock; ++i) out[i] = x[i];
}

// All rows of a component.
template <class acc, class In>
void inverse_rows(const Synthesis<acc>& p, const In& in, int k, HalfWay<acc>& out) {
  for (int v = 0; v < p.rows[k]; ++v) {
    const int line = k * kBlock + v;
    Vec<acc> row[kBlock];
    for (int u = 0; u < p.columns[k]; ++u) row[u] = Vec<acc>{} + p.bias[line * kBlock + u];
    for (int i = p.first[line]; i < p.first[line + 1]; ++i) {
      const SynthesisEntry<acc>& e = p.entries[i];
      row[e.column] += in(e.channel) * e.scale;
    }
    with_count(p.columns[k], [&](auto columns) {
      if (p.chroma == Chroma::k420 && k > 0)
        inverse_row<true, columns, acc>(row, out[v]);
      else
        inverse_row<false, columns, acc>(row, out[v]);
    });
  }
}

// The inverse down the columns of the rows in(v, i), zero from `rows` on: pixels to out(y, i, vector).
template <int rows, class acc, class In, class Out>
FREQOPS_INLINE void inverse_columns(const In& in, const Out& out) {
  for (int i = 0; i < kBlock; ++i) {
    Vec<acc> x[kBlock] = {};
#pragma GCC unroll 8
    for (int v = 0; v < rows; ++v) x[v] = in(v, i);
    dct8_transposed<acc>(x);
#pragma GCC unroll 8
    for (int y = 0; y < kBlock; ++y) out(y, i, x[y]);
  }
}

// A plane. `pairs`: pairs of rows are replaced by their mean.
template <bool pairs, int rows, class acc>
__attribute__((noinline)) void inverse_plane(const HalfWay<acc>& half, acc* out, int64_t pitch) {
  const auto row = [&](int v, int i) { return half[v][i]; };
  Vec<acc> above;
  inverse_columns<rows, acc>(row, [&](int y, int i, Vec<acc> x) {
    acc* to = out + y * pitch + i * kLanes<acc>;
    if (!pairs) {
      store_vector(to, x);
    } else if (y % 2 == 0) {
      above = x;
    } else {
      const Vec<acc> mean = (above + x) * acc(.5);
      store_vector(to - pitch, mean);
      store_vector(to, mean);
    }
  });
}

// Component k's plane.
template <class acc>
void inverse_plane(const Synthesis<acc>& p, const HalfWay<acc>& half, int k, acc* out,
                   int64_t pitch) {
  if (p.rows[k] == 0) {
    for (int y = 0; y < kBlock; ++y)
      for (int i = 0; i < kBlock; ++i) store_vector(out + y * pitch + i * kLanes<acc>, Vec<acc>{});
    return;
  }
  with_count(p.rows[k], [&](auto rows) {
    if (p.chroma == Chroma::k420 && k > 0)
      inverse_plane<true, rows>(half, out, pitch);
    else
      inverse_plane<false, rows>(half, out, pitch);
  });
}

// All planes of a tile.
template <class acc, class T>
__attribute__((noinline)) void inverse_planes(const Synthesis<acc>& p, const Tile& tile,
                                              acc* const (&planes)[kComponents], int64_t pitch) {
  with_input<acc, T>(p, tile, [&](const auto& in) {
    for (int k = 0; k < kComponents; ++k) {
      HalfWay<acc> half;
      inverse_rows(p, in, k, half);
      inverse_plane(p, half, k, planes[k], pitch);
    }
  });
}

// f with an element of the coefficients' type.
template <class acc, class F>
void with_coefficient_type(const Synthesis<acc>& p, const F& f) {
  switch (p.in.type) {
    case Type::kHalf: return f(Half());
    case Type::kBfloat16: return f(BFloat16());
    case Type::kFloat: return f(float());
    case Type::kDouble:
      if constexpr (sizeof(acc) == 8) return f(double());
      return;
    case Type::kUint8: return;  // coefficients have no such type
  }
}

template <class acc>
void inverse_planes_any(const Synthesis<acc>& p, const Tile& tile,
                        acc* const (&planes)[kComponents], int64_t pitch) {
  with_coefficient_type(
      p, [&](auto zero) { inverse_planes<acc, decltype(zero)>(p, tile, planes, pitch); });
}

// The rows of all components of a tile.
template <class acc, class T>
__attribute__((noinline)) void inverse_rows(const Synthesis<acc>& p, const Tile& tile,
                                            HalfWay<acc> (&half)[kComponents]) {
  with_input<acc, T>(p, tile, [&](const auto& in) {
    for (int k = 0; k < kComponents; ++k) inverse_rows(p, in, k, half[k]);
  });
}

template <int rows, class acc, class T>
__attribute__((noinline)) void store_colours(const Synthesis<acc>& p, const Tile& tile,
                                             const HalfWay<acc> (&half)[kComponents]) {
  const int coloured = p.rows[1] > p.rows[2] ? p.rows[1] : p.rows[2];
  store_tile<acc, T>(p, tile, [&](const auto& put) {
    for (int c = 0; c < kComponents; ++c) {
      const Vec<acc> m[] = {Vec<acc>{} + p.matrix[c][0], Vec<acc>{} + p.matrix[c][1],
                            Vec<acc>{} + p.matrix[c][2]};
      const Vec<acc> shift = Vec<acc>{} + p.shift;
      const auto colour = [&](int v, int i) {
        Vec<acc> x = m[0] * half[0][v][i];
        if (v == 0) x += shift;
        if (v < coloured) x += m[1] * half[1][v][i] + m[2] * half[2][v][i];
        return x;
      };
      inverse_columns<rows, acc>(colour, [&](int y, int i, Vec<acc> x) { put(c, y, i, x); });
    }
  });
}

// Where chroma is as it is: colours are mixed half way, since most rows are often zero.
template <class acc>
void run_colours(const Synthesis<acc>& p, int64_t begin, int64_t end) {
  HalfWay<acc> half[kComponents] = {};  // rows that are zero stay zero
  int most = 1;
  for (const int rows : p.rows) most = rows > most ? rows : most;
  for (int64_t item = begin; item < end; ++item) {
    const Tile tile = tile_at<acc>(item, p.in.height, p.in.width);
    with_coefficient_type(p, [&](auto zero) { inverse_rows<acc, decltype(zero)>(p, tile, half); });
    with_count(most, [&](auto rows) {
      with_picture_type(
          p, [&](auto zero) { store_colours<rows, acc, decltype(zero)>(p, tile, half); });
    });
  }
}

// Where 2x2 means stand between the planes and the colours.
template <class acc>
void run_planes(const Synthesis<acc>& p, int64_t begin, int64_t end) {
  constexpr int width = kBlock * kLanes<acc>;
  alignas(64) acc planes[kComponents][kBlock * width];
  acc* const at[] = {planes[0], planes[1], planes[2]};
  for (int64_t i = begin; i < end; ++i) {
    const Tile tile = tile_at<acc>(i, p.in.height, p.in.width);
    inverse_planes_any(p, tile, at, width);
    store_planes<acc>(p, tile, {{planes[0], planes[1], planes[2]}, width});
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
        inverse_planes_any(p, tile, at, strips.pitch);
      }
    }
    strips.smooth(above, i, below);
    for (int64_t bx = 0; bx < p.in.width; bx += kLanes<acc>) {
      const Tile tile = strip_tile<acc>(n, by, bx, p.in.width);
      store_planes<acc>(
          p, tile,
          {{strips.plane(i, 0, bx), strips.smoothed(1, bx), strips.smoothed(2, bx)}, strips.pitch});
    }
  }
}

template <class acc>
void synthesise(const Synthesis<acc>& p, int64_t begin, int64_t end) {
  switch (p.chroma) {
    case Chroma::k444: run_colours(p, begin, end); break;
    case Chroma::k420: run_planes(p, begin, end); break;
    case Chroma::kDctnet: run_strips(p, begin, end); break;
  }
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
