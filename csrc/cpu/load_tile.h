// Pixels of a tile -> colour planes with lane = block.
#pragma once

#include "convert.h"
#include "params.h"
#include "tile.h"
#include "transpose.h"

namespace freqops::cpu {
namespace {

// planes[component][y * 8 + x]
template <class acc>
using Planes = Vec<acc>[kComponents][kCoefficients];

// Where the rows of a tile lie: colour c of row y starts at rows[c][y]. Interleaved colours are one
// run of 24 elements to a block, in rows[0].
template <class T>
struct Rows {
  const T* rows[kComponents][kBlock];
};

template <class T>
FREQOPS_INLINE void copy_block_row(T* to, const T* from) {
  __builtin_memcpy(to, from, kBlock * sizeof(T));
}

// Copies the tile to `staged` [3][8][8 N], edges replicated or zero, lanes beyond count zero.
template <class acc, class T>
void stage(const Analysis<acc>& p, const Tile& tile, T* staged, Rows<T>* out) {
  constexpr int width = kBlock * kLanes<acc>;
  const View& in = p.in;
  const T* picture = static_cast<const T*>(in.data) + tile.n * in.stride_n;
  int64_t by = tile.by, bx = tile.bx;
  for (int lane = 0; lane < kLanes<acc>; ++lane) {
    T* to = staged + lane * kBlock;
    if (lane >= tile.count) {
      for (int row = 0; row < kComponents * kBlock; ++row)
        for (int x = 0; x < kBlock; ++x) to[row * width + x] = T{};
      continue;
    }
    const int columns = int(smaller(in.width - bx * kBlock, kBlock));
    const int rows = int(smaller(in.height - by * kBlock, kBlock));
    const T* corner = picture + by * kBlock * in.stride_h + bx * kBlock * in.stride_w;
    for (int c = 0; c < kComponents; ++c) {
      for (int y = 0; y < kBlock; ++y, to += width) {
        const T* from = corner + c * in.stride_c + (y < rows ? y : rows - 1) * in.stride_h;
        const bool none = y >= rows && p.edge == Edge::kZero;
        if (columns == kBlock && in.stride_w == 1 && !none) {
          copy_block_row(to, from);
        } else {
          for (int x = 0; x < kBlock; ++x) {
            const bool outside = none || (x >= columns && p.edge == Edge::kZero);
            to[x] = outside ? T{} : from[(x < columns ? x : columns - 1) * in.stride_w];
          }
        }
      }
    }
    if (++bx == p.grid_w) bx = 0, ++by;
  }
  for (int c = 0; c < kComponents; ++c)
    for (int y = 0; y < kBlock; ++y) out->rows[c][y] = staged + (c * kBlock + y) * width;
}

// One block row, whole blocks: the rows can be read where they are.
template <class acc>
FREQOPS_INLINE bool is_plain(const Analysis<acc>& p, const Tile& tile) {
  const int64_t end = tile.bx + kLanes<acc>;
  return tile.count == kLanes<acc> && end <= p.grid_w && end * kBlock <= p.in.width &&
         (p.edge == Edge::kReplicate || (tile.by + 1) * kBlock <= p.in.height);
}

template <class acc, class T>
FREQOPS_INLINE void rows_in_place(const Analysis<acc>& p, const Tile& tile, Rows<T>* out) {
  const View& in = p.in;
  const T* corner =
      static_cast<const T*>(in.data) + tile.n * in.stride_n + tile.bx * kBlock * in.stride_w;
  for (int c = 0; c < kComponents; ++c)
    for (int y = 0; y < kBlock; ++y)
      out->rows[c][y] =
          corner + c * in.stride_c + smaller(tile.by * kBlock + y, in.height - 1) * in.stride_h;
}

// Y, Cb, Cr of one pixel in every block. The matrix is copied: what is stored to the planes could
// otherwise be a part of it.
template <class acc>
struct Mix {
  Vec<acc> m[3][3];
  Vec<acc> shift;
  acc white;

  explicit Mix(const Analysis<acc>& p) : shift(Vec<acc>{} + p.shift), white(p.white) {
    for (int k = 0; k < 3; ++k)
      for (int c = 0; c < 3; ++c) m[k][c] = Vec<acc>{} + p.matrix[k][c];
  }

  template <bool jpeg>
  FREQOPS_INLINE void apply(Vec<acc> r, Vec<acc> g, Vec<acc> b,
                            Vec<acc> (&out)[kComponents]) const {
    if (jpeg) r *= white, g *= white, b *= white;
    out[0] = m[0][0] * r + (m[0][1] * g + (m[0][2] * b + shift));
    out[1] = m[1][0] * r + (m[1][1] * g + m[1][2] * b);
    out[2] = m[2][0] * r + (m[2][1] * g + m[2][2] * b);
    if (jpeg)
      for (auto& plane : out) plane = round_even<acc>(plane);
  }
};

// Row y of the tile: planes[component][y * 8 + x] for all x.
template <bool jpeg, bool interleaved, class acc, class T>
FREQOPS_INLINE void row_to_planes(const Mix<acc>& mix, const Rows<T>& rows, int y,
                                  Planes<acc>& planes) {
  constexpr int N = kLanes<acc>;
  Vec<acc> out[kComponents];
  if constexpr (std::is_same_v<T, uint8_t>) {
    // A byte moves in a register of 64, a float in one of 16: transposed before it is widened.
    alignas(64) uint8_t bytes[kComponents * kBlock * N];
    if (interleaved) {
      bytes_to_lanes<kComponents * kBlock, N>(rows.rows[0][y], bytes);
    } else {
      for (int c = 0; c < kComponents; ++c)
        bytes_to_lanes<kBlock, N>(rows.rows[c][y], bytes + c * kBlock * N);
    }
    constexpr int step_c = interleaved ? N : kBlock * N;
    constexpr int step_x = interleaved ? kComponents * N : N;
    for (int x = 0; x < kBlock; ++x) {
      const uint8_t* at = bytes + x * step_x;
      mix.template apply<jpeg>(load<acc>(at), load<acc>(at + step_c), load<acc>(at + 2 * step_c),
                               out);
      for (int k = 0; k < kComponents; ++k) planes[k][y * kBlock + x] = out[k];
    }
  } else {
    Vec<acc> colours[kComponents][kBlock];
    for (int c = 0; c < kComponents; ++c) {
      for (int i = 0; i < kBlock; ++i) colours[c][i] = load<acc>(rows.rows[c][y] + i * N);
      rows_to_lanes(colours[c]);
    }
    for (int x = 0; x < kBlock; ++x) {
      mix.template apply<jpeg>(colours[0][x], colours[1][x], colours[2][x], out);
      for (int k = 0; k < kComponents; ++k) planes[k][y * kBlock + x] = out[k];
    }
  }
}

template <bool jpeg, bool interleaved, class acc, class T>
__attribute__((noinline)) void rows_to_planes(const Analysis<acc>& p, const Rows<T>& rows,
                                              Planes<acc>& planes) {
  const Mix<acc> mix(p);
  for (int y = 0; y < kBlock; ++y) row_to_planes<jpeg, interleaved>(mix, rows, y, planes);
}

template <class acc, class T>
void load_planes(const Analysis<acc>& p, const Tile& tile, Planes<acc>& planes) {
  alignas(64) T staged[kComponents * kCoefficients * kLanes<acc>];
  Rows<T> rows;
  if constexpr (std::is_same_v<T, uint8_t>) {
    if (p.in.stride_w == kComponents && p.in.stride_c == 1 && is_plain(p, tile)) {
      rows_in_place(p, tile, &rows);
      if (p.jpeg) return rows_to_planes<true, true>(p, rows, planes);
      return rows_to_planes<false, true>(p, rows, planes);
    }
  }
  if (p.in.stride_w == 1 && is_plain(p, tile))
    rows_in_place(p, tile, &rows);
  else
    stage(p, tile, staged, &rows);
  if (p.jpeg) return rows_to_planes<true, false>(p, rows, planes);
  return rows_to_planes<false, false>(p, rows, planes);
}

}  // namespace
}  // namespace freqops::cpu
