// Pixels of a tile, where they lie or staged, and their planes with lane = block.
#pragma once

#include "convert.h"
#include "params.h"
#include "tile.h"
#include "transpose.h"

namespace freqops::cpu {
namespace {

// Vectors of a tile by component: pixels at [y * 8 + x], or half way to coefficients [line * 8 + i].
template <class acc>
using Planes = Vec<acc>[kComponents][kCoefficients];

// Where the rows of a tile lie: N blocks of colour c of row y start at row(c, y). Interleaved colours
// are one run of 24 elements to a block, in row(0, y). Rows -1 and 8 are there where chroma is
// smoothed down the columns; at the picture's edges they are rows 0 and 7.
constexpr int kRows = kBlock + 2;

template <class T>
struct Rows {
  const T* rows[kComponents][kRows];
  bool interleaved;
  int frame;  // 1 with rows -1 and 8, else 0
  Seam seam;  // of rows of pixels where they are

  FREQOPS_INLINE const T* row(int c, int y) const { return rows[c][y + 1]; }
  FREQOPS_INLINE void set(int c, int y, const T* at) { rows[c][y + 1] = at; }
};

// Room for a tile's rows, each in two runs of whole tiles (stage_two_runs).
template <class acc, class T>
using Staged = T[kComponents * kRows * 2 * kBlock * kLanes<acc>];

FREQOPS_INLINE bool is_interleaved(const View& in) {
  return in.stride_w == kComponents && in.stride_c == 1;
}

template <int count, class T>
FREQOPS_INLINE void copy_row(T* to, const T* from) {
  constexpr int bytes = count * int(sizeof(T));
  // Whole vectors, or 8 bytes at a time: a length in between is a call.
  constexpr int step = (bytes % kVectorBytes == 0 ? kVectorBytes : 8) / int(sizeof(T));
  static_assert(count % step == 0, "whole steps");
  for (int i = 0; i < count; i += step) __builtin_memcpy(to + i, from + i, step * sizeof(T));
}

// One block row, whole blocks: the rows can be read where they are.
template <class acc>
FREQOPS_INLINE bool is_plain(const Analysis<acc>& p, const Tile& tile) {
  const int64_t end = tile.bx + kLanes<acc>;
  return tile.count == kLanes<acc> && end <= p.grid_w && end * kBlock <= p.in.width &&
         (p.edge == Edge::kReplicate || (tile.by + 1) * kBlock <= p.in.height);
}

template <class T>
FREQOPS_INLINE const T* corner(const View& in, int64_t n, int64_t by, int64_t bx) {
  return static_cast<const T*>(in.data) + n * in.stride_n + by * kBlock * in.stride_h +
         bx * kBlock * in.stride_w;
}

FREQOPS_INLINE int64_t within(int64_t row, const View& in) {
  return row < 0 ? 0 : smaller(row, in.height - 1);
}

template <class acc, class T>
FREQOPS_INLINE void rows_in_place(const Analysis<acc>& p, const Tile& tile, Rows<T>* out) {
  const View& in = p.in;
  const T* first = corner<T>(in, tile.n, 0, tile.bx);
  for (int y = -out->frame; y < kBlock + out->frame; ++y) {
    const T* row = first + within(tile.by * kBlock + y, in) * in.stride_h;
    for (int c = 0; c < kComponents; ++c) out->set(c, y, row + c * in.stride_c);
  }
}

// A tile that begins at the end of one block row and ends at the beginning of the next. Rows are
// copied as runs of the whole width, the second over what the first brought too much; false where
// that would read beyond the picture, or where blocks are cut.
template <class acc, class T>
bool stage_two_runs(const Analysis<acc>& p, const Tile& tile, T* staged, Rows<T>* out) {
  constexpr int N = kLanes<acc>;
  const View& in = p.in;
  const int64_t first = p.grid_w - tile.bx;  // blocks of the first run
  const bool whole = in.width == p.grid_w * kBlock && (tile.by + 2) * kBlock <= in.height;
  if (tile.count != N || !whole || first >= N || N - first > p.grid_w) return false;
  const int period = out->interleaved ? kComponents * kBlock : kBlock;
  const int planes = out->interleaved ? 1 : kComponents, width = period * N;
  const int64_t last = (in.height - 1) * in.stride_h + (in.width - 1) * in.stride_w +
                       (out->interleaved ? kComponents - 1 : 0);
  const int64_t lowest[] = {within((tile.by + 1) * kBlock, in), within((tile.by + 2) * kBlock, in)};
  if (lowest[0] * in.stride_h + tile.bx * kBlock * in.stride_w + width > last + 1 ||
      lowest[1] * in.stride_h + width > last + 1)
    return false;
  const T* above = corner<T>(in, tile.n, 0, tile.bx);
  const T* below = corner<T>(in, tile.n, 0, 0);
  for (int c = 0; c < planes; ++c) {
    for (int y = -out->frame; y < kBlock + out->frame; ++y) {
      T* to = staged + (c * kRows + y + 1) * 2 * width;
      const int64_t row = tile.by * kBlock + y;
      const T* from = above + c * in.stride_c + within(row, in) * in.stride_h;
      for (int i = 0; i < width; i += kBlock * N) copy_row<kBlock * N>(to + i, from + i);
      T* rest = to + first * period;
      from = below + c * in.stride_c + within(row + kBlock, in) * in.stride_h;
      for (int i = 0; i < width; i += kBlock * N) copy_row<kBlock * N>(rest + i, from + i);
      out->set(c, y, to);
    }
  }
  return true;
}

// Elements x of a row of a block, of interleaved or of one colour, with the last pixel again, or zero,
// from pixel `columns` on.
template <class T>
FREQOPS_INLINE void copy_cut_row(T* to, const T* row, int period, int64_t stride_w, int columns,
                                 bool zero) {
  const int colours = period / kBlock;
  for (int x = 0; x < kBlock; ++x)
    for (int c = 0; c < colours; ++c)
      to[x * colours + c] =
          zero && x >= columns ? T{} : row[(x < columns ? x : columns - 1) * stride_w + c];
}

// Any tile: edges replicated or zero, lanes beyond count zero.
template <class acc, class T>
__attribute__((noinline)) void stage_blocks(const Analysis<acc>& p, const Tile& tile, T* staged,
                                            Rows<T>* out) {
  const View& in = p.in;
  const bool interleaved = out->interleaved, zero = p.edge == Edge::kZero;
  const int period = interleaved ? kComponents * kBlock : kBlock, width = period * kLanes<acc>;
  const int first = -out->frame, last = kBlock + out->frame;
  int64_t by = tile.by, bx = tile.bx;
  for (int lane = 0; lane < kLanes<acc>; ++lane) {
    const int64_t rows = in.height - by * kBlock;
    const int columns = lane < tile.count ? int(smaller(in.width - bx * kBlock, kBlock)) : 0;
    const bool whole = columns == kBlock && (!zero || rows >= last);
    for (int c = 0; c < (interleaved ? 1 : kComponents); ++c) {
      const T* from = corner<T>(in, tile.n, 0, bx) + c * in.stride_c;
      T* to = staged + (c * kRows + first + 1) * width + lane * period;
      for (int y = first; y < last; ++y, to += width) {
        const T* row = from + within(by * kBlock + y, in) * in.stride_h;
        if (whole && interleaved)
          copy_row<kComponents * kBlock>(to, row);
        else if (whole && in.stride_w == 1)
          copy_row<kBlock>(to, row);
        else if (whole)
          for (int x = 0; x < kBlock; ++x) to[x] = row[x * in.stride_w];
        else if (columns == 0 || (zero && y >= rows))
          for (int x = 0; x < period; ++x) to[x] = T{};
        else
          copy_cut_row(to, row, period, in.stride_w, columns, zero);
      }
    }
    if (++bx == p.grid_w) bx = 0, ++by;
  }
  for (int c = 0; c < (interleaved ? 1 : kComponents); ++c)
    for (int y = first; y < last; ++y) out->set(c, y, staged + (c * kRows + y + 1) * width);
}

// The rows of a tile, staged where they cannot be read in place. out->frame is set.
template <class acc, class T>
FREQOPS_INLINE void find_rows(const Analysis<acc>& p, const Tile& tile, Staged<acc, T>& staged,
                              Rows<T>* out) {
  out->interleaved = is_interleaved(p.in);
  out->seam = {true, kBlock, 1, 0};
  const bool runs = out->interleaved || p.in.stride_w == 1;
  if (runs && is_plain(p, tile)) return rows_in_place(p, tile, out);
  if (p.columns_first && p.chroma == Chroma::k444 && p.in.stride_w == 1) {
    const Seam seam = seam_of<acc>(tile, p.grid_w, p.in.stride_h);
    const bool whole = p.in.width == p.grid_w * kBlock && (tile.by + 2) * kBlock <= p.in.height;
    if (tile.count == kLanes<acc> && whole && seam.between_vectors) {
      out->seam = seam;
      return rows_in_place(p, tile, out);
    }
  }
  if (runs && stage_two_runs(p, tile, staged, out)) return;
  stage_blocks(p, tile, staged, out);
}

// Y, Cb, Cr from the colours of one pixel, or of what is linear in pixels, in every block. The
// matrix is copied: what is stored to the planes could otherwise be a part of it.
template <class acc>
struct Mix {
  Vec<acc> m[3][3];
  Vec<acc> shift;  // added to Y
  acc white;

  Mix(const Analysis<acc>& p, acc shift) : shift(Vec<acc>{} + shift), white(p.white) {
    for (int k = 0; k < 3; ++k)
      for (int c = 0; c < 3; ++c) m[k][c] = Vec<acc>{} + p.matrix[k][c];
  }

  FREQOPS_INLINE Vec<acc> component(int k, Vec<acc> r, Vec<acc> g, Vec<acc> b) const {
    return m[k][0] * r + (m[k][1] * g + m[k][2] * b);
  }

  template <bool jpeg>
  FREQOPS_INLINE void apply(Vec<acc> r, Vec<acc> g, Vec<acc> b,
                            Vec<acc> (&out)[kComponents]) const {
    if (jpeg) r *= white, g *= white, b *= white;
    out[0] = m[0][0] * r + (m[0][1] * g + (m[0][2] * b + shift));
    for (int k = 1; k < kComponents; ++k) out[k] = component(k, r, g, b);
    if (jpeg)
      for (auto& plane : out) plane = round_even<acc>(plane);
  }
};

// colours[c][x]: row y of the tile, lane = block.
template <class acc, class T>
FREQOPS_INLINE void row_to_lanes(const Rows<T>& rows, int y,
                                 Vec<acc> (&colours)[kComponents][kBlock]) {
  constexpr int N = kLanes<acc>;
  if constexpr (std::is_same_v<T, uint8_t>) {
    // A byte moves in a register of 64, a float in one of 16: transposed before it is widened.
    alignas(64) uint8_t bytes[kComponents * kBlock * N];
    if (rows.interleaved) {
      bytes_to_lanes<kComponents * kBlock, N>(rows.row(0, y), bytes);
    } else {
      for (int c = 0; c < kComponents; ++c)
        bytes_to_lanes<kBlock, N>(rows.row(c, y), bytes + c * kBlock * N);
    }
    const int step_c = rows.interleaved ? N : kBlock * N;
    const int step_x = rows.interleaved ? kComponents * N : N;
    for (int c = 0; c < kComponents; ++c)
      for (int x = 0; x < kBlock; ++x) colours[c][x] = load<acc>(bytes + c * step_c + x * step_x);
  } else {
    for (int c = 0; c < kComponents; ++c) {
      for (int i = 0; i < kBlock; ++i) colours[c][i] = load<acc>(rows.row(c, y) + i * N);
      rows_to_lanes(colours[c]);
    }
  }
}

// planes[component][y * 8 + x]
template <bool jpeg, class acc, class T>
__attribute__((noinline)) void rows_to_planes(const Analysis<acc>& p, const Rows<T>& rows,
                                              Planes<acc>& planes) {
  const Mix<acc> mix(p, p.shift);
  for (int y = 0; y < kBlock; ++y) {
    Vec<acc> colours[kComponents][kBlock], out[kComponents];
    row_to_lanes<acc>(rows, y, colours);
    for (int x = 0; x < kBlock; ++x) {
      mix.template apply<jpeg>(colours[0][x], colours[1][x], colours[2][x], out);
      for (int k = 0; k < kComponents; ++k) planes[k][y * kBlock + x] = out[k];
    }
  }
}

template <class acc, class T>
FREQOPS_INLINE void load_planes(const Analysis<acc>& p, const Rows<T>& rows, Planes<acc>& planes) {
  if (p.jpeg) return rows_to_planes<true>(p, rows, planes);
  return rows_to_planes<false>(p, rows, planes);
}

}  // namespace
}  // namespace freqops::cpu
