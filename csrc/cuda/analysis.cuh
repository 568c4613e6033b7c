// Pixels to coefficients. A thread block takes a tile of consecutive 8x8 blocks:
//
//   1  one thread per pixel column: 8 rows x 3 colours in, colours, chroma, rounding, vertical DCT
//   2  one thread per row of coefficients: horizontal DCT, normalise, each channel a run of blocks
//
// with shared memory between the two. Pixels are read once and coefficients written once, in runs of
// 32 elements.
#pragma once

#include "tile.cuh"

namespace freqops::cuda {

// Rows of one pixel column from `row` on. Three addresses move down together, and stay where they
// are at the last row: replication without a product or a comparison of 64 bits for each pixel.
template <class scalar_t, class acc>
struct Column {
  const char* colour[kComponents];
  int64_t step;  // bytes from row to row
  int row, last;
  Type type;

  __device__ __forceinline__ Column(const View& v, uint32_t picture, int first_row, int column)
      : step(v.stride_h * Memory<scalar_t>::size(v.type)),
        row(first_row),
        last(int(v.height) - 1),
        type(v.type) {
    const int64_t at = picture * v.stride_n + smaller(row, last) * v.stride_h +
                       smaller(column, int(v.width) - 1) * v.stride_w;
#pragma unroll
    for (int c = 0; c < kComponents; ++c)
      colour[c] =
          static_cast<const char*>(v.data) + (at + c * v.stride_c) * Memory<scalar_t>::size(type);
  }

  __device__ __forceinline__ void load(acc& red, acc& green, acc& blue) const {
    red = Memory<scalar_t>::template load<acc>(colour[0], type);
    green = Memory<scalar_t>::template load<acc>(colour[1], type);
    blue = Memory<scalar_t>::template load<acc>(colour[2], type);
  }

  __device__ __forceinline__ void next() {
    const int64_t down = row++ < last ? step : 0;
#pragma unroll
    for (int c = 0; c < kComponents; ++c) colour[c] += down;
  }
};

// Y, Cb or Cr of a pixel.
template <class acc>
__device__ __forceinline__ acc plane(const AnalysisParams<acc>& p, int k, acc red, acc green,
                                     acc blue, acc shift) {
  return p.matrix.m[k][0] * red + (p.matrix.m[k][1] * green + (p.matrix.m[k][2] * blue + shift));
}

// The planes of column x of the block at `at`: chroma as it is or averaged over 2x2 pixels.
template <class scalar_t, class acc>
__device__ __forceinline__ void load_plain(const AnalysisParams<acc>& p, const Place& at, int x,
                                           acc (&planes)[kComponents][kBlock]) {
  const int row = int(at.row) * kBlock, column = int(at.column) * kBlock + x;
  Column<scalar_t, acc> pixels(p.pictures, at.picture, row, column);
#pragma unroll
  for (int r = 0; r < kBlock; ++r) {
    pixels.load(planes[0][r], planes[1][r], planes[2][r]);
    pixels.next();
  }
  if (p.rounded) {
#pragma unroll
    for (int r = 0; r < kBlock; ++r)
      for (int k = 0; k < kComponents; ++k) planes[k][r] *= p.white;
  }
#pragma unroll
  for (int r = 0; r < kBlock; ++r) {
    const acc red = planes[0][r], green = planes[1][r], blue = planes[2][r];
    for (int k = 0; k < kComponents; ++k)
      planes[k][r] = plane(p, k, red, green, blue, k == 0 ? p.shift : acc(0));
  }
  if (p.rounded) {
#pragma unroll
    for (int r = 0; r < kBlock; ++r)
      for (int k = 0; k < kComponents; ++k) planes[k][r] = round_even(planes[k][r]);
  }
  if (p.edge == Edge::kZero) {
    const int height = int(p.pictures.height), width = int(p.pictures.width);
#pragma unroll
    for (int r = 0; r < kBlock; ++r)
      for (int k = 0; k < kComponents; ++k)
        if (row + r >= height || column >= width) planes[k][r] = 0;
  }
  if (p.chroma != Chroma::k420) return;
#pragma unroll
  for (int k = 1; k < kComponents; ++k)
#pragma unroll
    for (int r = 0; r < kBlock; r += 2) {
      acc sum = planes[k][r] + planes[k][r + 1];
      sum += __shfl_xor_sync(~0u, sum, 1u);
      const acc mean = sum * acc(.25);
      planes[k][r] = planes[k][r + 1] = p.rounded ? round_even(mean) : mean;
    }
}

// Cb and Cr of a pixel column smoothed downwards, times 8: out[r] = x[r - 1] + 6 x[r] + x[r + 1].
// Y comes along unsmoothed.
template <class scalar_t, class acc>
__device__ __forceinline__ void load_smoothed_column(const AnalysisParams<acc>& p, const Place& at,
                                                     int column,
                                                     acc (&planes)[kComponents][kBlock]) {
  const int row = int(at.row) * kBlock;
  Column<scalar_t, acc> pixels(p.pictures, at.picture, larger(row - 1, 0), column);
#pragma unroll
  for (int k = 1; k < kComponents; ++k)
    for (int r = 0; r < kBlock; ++r) planes[k][r] = 0;
#pragma unroll
  for (int r = -1; r <= kBlock; ++r) {
    acc red, green, blue;
    pixels.load(red, green, blue);
    if (r >= 0 || row > 0) pixels.next();  // the row above the picture is its first
    if (p.rounded) {
      red *= p.white;
      green *= p.white;
      blue *= p.white;
    }
    if (r >= 0 && r < kBlock) {
      const acc y = plane(p, 0, red, green, blue, p.shift);
      planes[0][r] = p.rounded ? round_even(y) : y;
    }
#pragma unroll
    for (int k = 1; k < kComponents; ++k) {
      acc x = plane(p, k, red, green, blue, acc(0));
      if (p.rounded) x = round_even(x);
      if (r > 0) planes[k][r - 1] += x;
      if (r >= 0 && r < kBlock) planes[k][r] += 6 * x;
      if (r < kBlock - 1) planes[k][r + 1] += x;
    }
  }
}

// The planes of column x of the block at `at`: chroma smoothed by [1 6 1] / 8 in both directions.
// The neighbours to the left and right are next door in the warp, but for the block's outermost
// columns, which load one column more.
template <class scalar_t, class acc>
__device__ __forceinline__ void load_smoothed(const AnalysisParams<acc>& p, const Place& at, int x,
                                              acc (&planes)[kComponents][kBlock]) {
  const int column = int(at.column) * kBlock + x;
  load_smoothed_column<scalar_t>(p, at, column, planes);
  acc outer[kComponents][kBlock] = {};
  if (x == 0 || x == kBlock - 1)
    load_smoothed_column<scalar_t>(p, at, x == 0 ? larger(column - 1, 0) : column + 1, outer);
#pragma unroll
  for (int k = 1; k < kComponents; ++k)
#pragma unroll
    for (int r = 0; r < kBlock; ++r) {
      const acc left = __shfl_up_sync(~0u, planes[k][r], 1u);
      const acc right = __shfl_down_sync(~0u, planes[k][r], 1u);
      const acc sum = (x == 0 ? outer[k][r] : left) + (x == kBlock - 1 ? outer[k][r] : right);
      const acc smooth = (sum + 6 * planes[k][r]) * acc(1. / 64);
      planes[k][r] = p.rounded ? round_even(smooth) : smooth;
    }
}

// The scale of the DCT's outputs is part of an entry's unless coefficients are rounded first.
template <class result_t, class acc>
__device__ __forceinline__ void prepare_entries(const AnalysisParams<acc>& p,
                                                Entry<acc> (&entries)[kChannels]) {
  const int64_t pitch = p.channels_last ? 1 : p.grid.area.divisor;
#pragma unroll 1
  for (int e = int(threadIdx.x); e < p.channels.count; e += kThreads<acc>) {
    const acc dct = p.rounded ? acc(1) : p.dct_scale[p.channels.coefficient[e] % kCoefficients];
    const acc std = p.std.data ? statistic<acc>(p.std, p.channels, e) : acc(1);
    const acc mean = p.mean.data ? statistic<acc>(p.mean, p.channels, e) : acc(0);
    const acc factor = p.times_std ? std : 1 / std;
    entries[e] = {dct * factor, -mean * factor,
                  p.channels.position[e] * pitch * Memory<result_t>::size(p.result_type)};
  }
}

// Row v of a component's coefficients in a block, rounded where they are.
template <class acc>
__device__ __forceinline__ void transform_row(const AnalysisParams<acc>& p,
                                              const Planes<acc>& planes, int k, int v, int block,
                                              acc (&row)[kBlock]) {
#pragma unroll
  for (int x = 0; x < kBlock; ++x) row[x] = planes[k][v][x][block];
  dct8<acc>(row);
  if (p.rounded) {
#pragma unroll
    for (int u = 0; u < kBlock; ++u) row[u] = round_even(row[u] * p.dct_scale[v * kBlock + u]);
  }
}

// Thread blocks on a multiprocessor for which the registers must do: 64 registers a thread, or 128
// where two columns are held. Shared memory, 31 KB a thread block, admits as many or more on sm_80,
// sm_90 and sm_100, but three on sm_86, sm_89 and sm_120, which have 100 KB.
template <bool kSmoothed>
constexpr int kResident = kSmoothed ? 2 : 4;

// The result of entry e for a picture. A closed channel is zero, also where the coefficient is NaN.
template <bool kGated, class acc>
__device__ __forceinline__ acc outcome(const AnalysisParams<acc>& p, uint32_t picture, int e,
                                       const Entry<acc>& entry, acc coefficient) {
  const acc x = coefficient * entry.scale + entry.offset;
  if constexpr (kGated) {
    const acc gate = load<AnyType, acc>(
        p.gate.data, p.gate.type, int64_t(picture) * p.channels.count + p.channels.position[e]);
    return gate == 0 ? acc(0) : x * gate;
  }
  return x;
}

// kSmoothed: chroma "dctnet", which needs neighbouring blocks and more registers. kGated: results
// times a gate.
template <class scalar_t, class result_t, class acc, bool kSmoothed, bool kGated = false>
__global__ void __launch_bounds__(kThreads<acc>, kResident<kSmoothed>)
    analysis_kernel(const __grid_constant__ AnalysisParams<acc> p) {
  __shared__ Planes<acc> planes;
  __shared__ Entry<acc> entries[kChannels];

  const uint32_t first = blockIdx.x * kTile<acc>;
  const int thread = int(threadIdx.x);
  prepare_entries<result_t>(p, entries);
  {
    const int block = thread / kBlock, x = thread % kBlock;
    // Threads past the end repeat the last block, so that shuffles find whole warps.
    const Place at = place(smaller(first + block, p.grid.blocks - 1), p.grid);
    acc column[kComponents][kBlock];
    if constexpr (kSmoothed) {
      load_smoothed<scalar_t>(p, at, x, column);
    } else {
      load_plain<scalar_t>(p, at, x, column);
    }
#pragma unroll
    for (int k = 0; k < kComponents; ++k) {
      dct8<acc>(column[k]);
#pragma unroll
      for (int v = 0; v < kBlock; ++v)
        if (p.channels.rows[k] >> v & 1) planes[k][v][x][block] = column[k][v];
    }
  }
  __syncthreads();

  const int v = thread / kTile<acc>, block = thread % kTile<acc>;
  const int64_t size = Memory<result_t>::size(p.result_type);
  char* const result = static_cast<char*>(p.result);
  if (!p.channels_last) {
    if (first + block >= p.grid.blocks) return;
    const Place at = place(first + block, p.grid);
    const uint64_t area = p.grid.area.divisor;
    char* const first_channel =
        result + (at.picture * area * uint32_t(p.channels.count) + at.index) * size;
#pragma unroll 1
    for (int k = 0; k < kComponents; ++k) {
      if (!(p.channels.rows[k] >> v & 1)) continue;
      acc row[kBlock];
      transform_row(p, planes, k, v, block, row);
      const uint8_t* start = p.channels.start + (k * kBlock + v) * kBlock;
#pragma unroll
      for (int u = 0; u < kBlock; ++u)
#pragma unroll 1
        for (int e = start[u]; e < start[u + 1]; ++e) {
          const Entry<acc> entry = entries[e];
          Memory<result_t>::store(first_channel + entry.channel, p.result_type,
                                  outcome<kGated>(p, at.picture, e, entry, row[u]));
        }
    }
    return;
  }

  // A tile's channels lie together in memory: once all coefficients are there, a warp writes one
  // block's after the other's. Each thread puts its own where it read from: no barrier in between.
#pragma unroll 1
  for (int k = 0; k < kComponents; ++k) {
    if (!(p.channels.rows[k] >> v & 1)) continue;
    acc row[kBlock];
    transform_row(p, planes, k, v, block, row);
#pragma unroll
    for (int u = 0; u < kBlock; ++u) planes[k][v][u][block] = row[u];
  }
  __syncthreads();
  for (int b = thread / 32; b < kTile<acc> && first + b < p.grid.blocks; b += kThreads<acc> / 32) {
    const uint32_t picture = kGated ? quotient(first + b, p.grid.area) : 0;
    char* const first_channel = result + int64_t(first + b) * p.channels.count * size;
    for (int e = thread % 32; e < p.channels.count; e += 32) {
      const int c = p.channels.coefficient[e];
      const acc x = planes[c / kCoefficients][c / kBlock % kBlock][c % kBlock][b];
      Memory<result_t>::store(first_channel + entries[e].channel, p.result_type,
                              outcome<kGated>(p, picture, e, entries[e], x));
    }
  }
}

}  // namespace freqops::cuda
