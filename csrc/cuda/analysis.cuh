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

// The pixels of a tile's columns, as planes.
template <class scalar_t, class acc>
struct Pixels {
  const AnalysisParams<acc>& p;
  Elements<scalar_t> elements;
  int64_t picture;  // first element

  // Pixel (row, column) of the picture; beyond its edges the last pixel again, or zero.
  __device__ __forceinline__ void load(int row, int column, acc (&rgb)[kComponents]) const {
    const View& v = p.pictures;
    const int height = int(v.height), width = int(v.width);
    const int64_t at =
        picture + smaller(row, height - 1) * v.stride_h + smaller(column, width - 1) * v.stride_w;
    const bool zero = p.edge == Edge::kZero && (row >= height || column >= width);
#pragma unroll
    for (int c = 0; c < kComponents; ++c)
      rgb[c] = zero ? acc(0) : elements.template load<acc>(at + c * v.stride_c);
    if (p.rounded) {
#pragma unroll
      for (int c = 0; c < kComponents; ++c) rgb[c] *= p.white;
    }
  }

  // Y, Cb or Cr, rounded where planes are.
  __device__ __forceinline__ acc plane(int k, const acc (&rgb)[kComponents], acc shift) const {
    const acc x = p.matrix.m[k][0] * rgb[0] +
                  (p.matrix.m[k][1] * rgb[1] + (p.matrix.m[k][2] * rgb[2] + shift));
    return p.rounded ? round_even(x) : x;
  }
};

// Cb and Cr of a pixel column smoothed downwards, times 8: out[r] = x[r - 1] + 6 x[r] + x[r + 1].
// Y comes along unsmoothed.
template <class scalar_t, class acc>
__device__ __forceinline__ void load_smoothed_column(const Pixels<scalar_t, acc>& pixels, int row,
                                                     int column,
                                                     acc (&planes)[kComponents][kBlock]) {
  for (int k = 1; k < kComponents; ++k)
    for (int r = 0; r < kBlock; ++r) planes[k][r] = 0;
#pragma unroll
  for (int r = -1; r <= kBlock; ++r) {
    acc rgb[kComponents];
    pixels.load(larger(row + r, 0), column, rgb);
    if (r >= 0 && r < kBlock) planes[0][r] = pixels.plane(0, rgb, pixels.p.shift);
#pragma unroll
    for (int k = 1; k < kComponents; ++k) {
      const acc x = pixels.plane(k, rgb, acc(0));
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
__device__ __forceinline__ void load_smoothed(const Pixels<scalar_t, acc>& pixels, const Place& at,
                                              int x, acc (&planes)[kComponents][kBlock]) {
  const int row = int(at.row) * kBlock, column = int(at.column) * kBlock + x;
  load_smoothed_column(pixels, row, column, planes);
  acc outer[kComponents][kBlock] = {};
  if (x == 0 || x == kBlock - 1)
    load_smoothed_column(pixels, row, x == 0 ? larger(column - 1, 0) : column + 1, outer);
#pragma unroll
  for (int k = 1; k < kComponents; ++k)
#pragma unroll
    for (int r = 0; r < kBlock; ++r) {
      const acc left = __shfl_up_sync(~0u, planes[k][r], 1u);
      const acc right = __shfl_down_sync(~0u, planes[k][r], 1u);
      const acc sum = (x == 0 ? outer[k][r] : left) + (x == kBlock - 1 ? outer[k][r] : right);
      const acc smooth = (sum + 6 * planes[k][r]) * acc(1. / 64);
      planes[k][r] = pixels.p.rounded ? round_even(smooth) : smooth;
    }
}

// The planes of column x of the block at `at`: chroma as it is or averaged over 2x2 pixels.
template <class scalar_t, class acc>
__device__ __forceinline__ void load_plain(const Pixels<scalar_t, acc>& pixels, const Place& at,
                                           int x, acc (&planes)[kComponents][kBlock]) {
  const int row = int(at.row) * kBlock, column = int(at.column) * kBlock + x;
#pragma unroll
  for (int r = 0; r < kBlock; ++r) {
    acc rgb[kComponents];
    pixels.load(row + r, column, rgb);
#pragma unroll
    for (int k = 0; k < kComponents; ++k)
      planes[k][r] = pixels.plane(k, rgb, k == 0 ? pixels.p.shift : acc(0));
  }
  if (pixels.p.chroma != Chroma::k420) return;
#pragma unroll
  for (int k = 1; k < kComponents; ++k)
#pragma unroll
    for (int r = 0; r < kBlock; r += 2) {
      acc sum = planes[k][r] + planes[k][r + 1];
      sum += __shfl_xor_sync(~0u, sum, 1u);
      const acc mean = sum * acc(.25);
      planes[k][r] = planes[k][r + 1] = pixels.p.rounded ? round_even(mean) : mean;
    }
}

// out = coefficient * scale + offset for channel i. The scale of the DCT's outputs is part of it
// unless coefficients are rounded first.
template <class acc>
__device__ __forceinline__ void prepare_channel(const AnalysisParams<acc>& p, int i, acc* scale,
                                                acc* offset) {
  const acc dct = p.rounded ? acc(1) : p.dct_scale[p.channels.coefficient[i] % kCoefficients];
  const acc std = p.std.data ? statistic<acc>(p.std, p.channels, i) : acc(1);
  const acc mean = p.mean.data ? statistic<acc>(p.mean, p.channels, i) : acc(0);
  *scale = p.times_std ? dct * std : dct / std;
  *offset = p.times_std ? -mean * std : -mean / std;
}

// Thread blocks on a multiprocessor: 64 registers a thread, or 128 where two columns are held. Both
// stay below the 1536 threads of sm_120.
template <bool kSmoothed>
constexpr int kResident = kSmoothed ? 2 : 4;

// kSmoothed: chroma "dctnet", which needs neighbouring blocks and more registers.
template <class scalar_t, class result_t, class acc, bool kSmoothed>
__global__ void __launch_bounds__(kThreads<acc>, kResident<kSmoothed>)
    analysis_kernel(const __grid_constant__ AnalysisParams<acc> p) {
  __shared__ Planes<acc> planes;
  __shared__ acc scale[kChannels], offset[kChannels];

  const uint32_t first = blockIdx.x * kTile<acc>;
  const int thread = int(threadIdx.x);
  for (int i = thread; i < p.channels.count; i += kThreads<acc>)
    prepare_channel(p, i, &scale[i], &offset[i]);

  {
    const int block = thread / kBlock, x = thread % kBlock;
    // Threads past the end repeat the last block, so that shuffles find whole warps.
    const Place at = place(smaller(first + block, p.grid.blocks - 1), p.grid);
    const Pixels<scalar_t, acc> pixels{
        p, {p.pictures.data, p.pictures.type}, at.picture * p.pictures.stride_n};
    acc column[kComponents][kBlock];
    if constexpr (kSmoothed) {
      load_smoothed(pixels, at, x, column);
    } else {
      load_plain(pixels, at, x, column);
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
  const Elements<result_t> result(p.result, p.result_type);
  const Place at = place(smaller(first + block, p.grid.blocks - 1), p.grid);
  const bool inside = first + block < p.grid.blocks;
  const int64_t area = p.grid.area.divisor;
  const int64_t at_result = int64_t(at.picture) * p.channels.count * area + at.index;
#pragma unroll 1
  for (int k = 0; k < kComponents; ++k) {
    if (!(p.channels.rows[k] >> v & 1)) continue;
    acc row[kBlock];
#pragma unroll
    for (int x = 0; x < kBlock; ++x) row[x] = planes[k][v][x][block];
    dct8<acc>(row);
    if (p.rounded) {
#pragma unroll
      for (int u = 0; u < kBlock; ++u) row[u] = round_even(row[u] * p.dct_scale[v * kBlock + u]);
    }
    const uint8_t* start = p.channels.start + (k * kBlock + v) * kBlock;
#pragma unroll
    for (int u = 0; u < kBlock; ++u) {
      if (p.channels_last) {
        planes[k][v][u][block] = row[u];  // this thread's own cells: no barrier before
        continue;
      }
      for (int e = start[u]; e < start[u + 1]; ++e) {
        const int i = p.channels.position[e];
        if (inside) result.store(at_result + i * area, row[u] * scale[i] + offset[i]);
      }
    }
  }
  if (!p.channels_last) return;

  // A tile's channels lie together in memory: a warp writes one block's after the other's.
  __syncthreads();
  const int warps = kThreads<acc> / 32, warp = thread / 32, lane = thread % 32;
  for (int b = warp; b < kTile<acc> && first + b < p.grid.blocks; b += warps) {
    const int64_t at_block = int64_t(first + b) * p.channels.count;
    for (int i = lane; i < p.channels.count; i += 32) {
      const int c = p.channels.coefficient[i];
      const acc x = planes[c / kCoefficients][c / kBlock % kBlock][c % kBlock][b];
      result.store(at_block + i, x * scale[i] + offset[i]);
    }
  }
}

}  // namespace freqops::cuda
