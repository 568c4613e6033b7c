// Pixels to coefficients. A thread block takes a tile of consecutive 8x8 blocks:
//
//   1  one thread per row of a block: 8 pixels x 3 colours in, colours, chroma, rounding, horizontal
//      DCT
//   2  one thread per column of coefficients: vertical DCT, normalise, each channel a run of blocks
//
// with shared memory between the two. Pixels are read once and coefficients written once, in runs of
// 32 elements. Lanes of a warp are the rows of four blocks, in order: a block's row above or below is
// the next lane.
#pragma once

#include "rows.cuh"

namespace freqops::cuda {

// Y, Cb or Cr of a pixel.
template <class acc>
__device__ __forceinline__ acc plane(const AnalysisParams<acc>& p, int k, acc red, acc green,
                                     acc blue, acc shift) {
  return p.matrix.m[k][0] * red + (p.matrix.m[k][1] * green + (p.matrix.m[k][2] * blue + shift));
}

// Eight pixels of a row as planes, before chroma is averaged or smoothed.
template <class acc>
__device__ __forceinline__ void convert(const AnalysisParams<acc>& p,
                                        acc (&planes)[kComponents][kBlock]) {
  if (p.rounded) {
#pragma unroll
    for (int i = 0; i < kBlock; ++i)
      for (int k = 0; k < kComponents; ++k) planes[k][i] *= p.white;
  }
#pragma unroll
  for (int i = 0; i < kBlock; ++i) {
    const acc red = planes[0][i], green = planes[1][i], blue = planes[2][i];
    for (int k = 0; k < kComponents; ++k)
      planes[k][i] = plane(p, k, red, green, blue, k == 0 ? p.shift : acc(0));
  }
  if (p.rounded) {
#pragma unroll
    for (int i = 0; i < kBlock; ++i)
      for (int k = 0; k < kComponents; ++k) planes[k][i] = round_even(planes[k][i]);
  }
}

// The planes of row y of the block at `at`: chroma as it is or averaged over 2x2 pixels.
template <class scalar_t, class acc>
__device__ __forceinline__ void load_plain(const AnalysisParams<acc>& p, const Place& at, int y,
                                           acc (&planes)[kComponents][kBlock]) {
  const int row = int(at.row) * kBlock + y, column = int(at.column) * kBlock;
  const int height = int(p.pictures.height), width = int(p.pictures.width);
  const Row<scalar_t, acc> pixels(p.pictures, at.picture, smaller(row, height - 1));
  pixels.load(p.access, column, planes);
  convert(p, planes);
  if (p.edge == Edge::kZero) {
#pragma unroll
    for (int i = 0; i < kBlock; ++i)
      for (int k = 0; k < kComponents; ++k)
        if (row >= height || column + i >= width) planes[k][i] = 0;
  }
  if (p.chroma != Chroma::k420) return;
#pragma unroll
  for (int k = 1; k < kComponents; ++k)
#pragma unroll
    for (int i = 0; i < kBlock; i += 2) {
      acc sum = planes[k][i] + planes[k][i + 1];
      sum += __shfl_xor_sync(~0u, sum, 1u);
      const acc mean = sum * acc(.25);
      planes[k][i] = planes[k][i + 1] = p.rounded ? round_even(mean) : mean;
    }
}

// Cb and Cr of the pixel in a column.
template <class scalar_t, class acc>
__device__ __forceinline__ void load_chroma(const AnalysisParams<acc>& p,
                                            const Row<scalar_t, acc>& pixels, int column,
                                            acc (&chroma)[kComponents]) {
  acc x[kComponents];
  pixels.load_pixel(column, x);
#pragma unroll
  for (int c = 0; c < kComponents; ++c)
    if (p.rounded) x[c] *= p.white;
#pragma unroll
  for (int k = 1; k < kComponents; ++k) {
    chroma[k] = plane(p, k, x[0], x[1], x[2], acc(0));
    if (p.rounded) chroma[k] = round_even(chroma[k]);
  }
}

// Y of a row, and Cb and Cr smoothed along it, times 8: x[i - 1] + 6 x[i] + x[i + 1]. Beyond the
// picture's edges its first and last pixel go on.
template <class scalar_t, class acc>
__device__ __forceinline__ void load_smoothed_row(const AnalysisParams<acc>& p, const Place& at,
                                                  int row, acc (&planes)[kComponents][kBlock]) {
  const int column = int(at.column) * kBlock, last = int(p.pictures.width) - 1;
  const Row<scalar_t, acc> pixels(p.pictures, at.picture, row);
  pixels.load(p.access, column, planes);
  acc left[kComponents], right[kComponents];
  load_chroma(p, pixels, larger(column - 1, 0), left);
  load_chroma(p, pixels, smaller(column + kBlock, last), right);
  convert(p, planes);
#pragma unroll
  for (int k = 1; k < kComponents; ++k) {
    acc before = left[k];
#pragma unroll
    for (int i = 0; i < kBlock; ++i) {
      const acc here = planes[k][i];
      planes[k][i] = (before + 6 * here) + (i + 1 < kBlock ? planes[k][i + 1] : right[k]);
      before = here;
    }
  }
}

// The planes of row y of the block at `at`: chroma smoothed by [1 6 1] / 8 in both directions. The
// rows above and below are next door in the warp, but for the block's outermost rows, which load one
// row more.
template <class scalar_t, class acc>
__device__ __forceinline__ void load_smoothed(const AnalysisParams<acc>& p, const Place& at, int y,
                                              acc (&planes)[kComponents][kBlock]) {
  const int row = int(at.row) * kBlock + y, last = int(p.pictures.height) - 1;
  acc outer[kComponents][kBlock] = {};
  if (y == 0 || y == kBlock - 1)
    load_smoothed_row<scalar_t>(p, at, y == 0 ? larger(row - 1, 0) : smaller(row + 1, last), outer);
  load_smoothed_row<scalar_t>(p, at, smaller(row, last), planes);
#pragma unroll
  for (int k = 1; k < kComponents; ++k)
#pragma unroll
    for (int i = 0; i < kBlock; ++i) {
      const acc above = __shfl_up_sync(~0u, planes[k][i], 1u);
      const acc below = __shfl_down_sync(~0u, planes[k][i], 1u);
      const acc sum = (y == 0 ? outer[k][i] : above) + (y == kBlock - 1 ? outer[k][i] : below);
      const acc smooth = (sum + 6 * planes[k][i]) * acc(1. / 64);
      planes[k][i] = p.rounded ? round_even(smooth) : smooth;
    }
}

// Where the coefficients of a tile lie in shared memory: component * 64 + v * 8 + u of its first
// block.
template <class acc>
__device__ __forceinline__ int place_in_tile(int coefficient) {
  const int u = coefficient % kBlock, v = coefficient / kBlock % kBlock;
  return (coefficient / kCoefficients * kBlock + u) * (kBlock * kPitch<acc> + 1) + v * kPitch<acc>;
}

// The scale of the DCT's outputs is part of an entry's unless coefficients are rounded first. A
// channels_last result is written entry after entry: `channel` says where the coefficient is.
template <class result_t, class acc>
__device__ __forceinline__ void prepare_entries(const AnalysisParams<acc>& p, bool by_coefficient,
                                                Entry<acc> (&entries)[kChannels]) {
#pragma unroll 1
  for (int e = int(threadIdx.x); e < p.channels.count; e += kThreads<acc>) {
    const int c = p.channels.coefficient[e];
    const acc dct = p.rounded ? acc(1) : p.dct_scale[c % kCoefficients];
    const acc std = p.std.data ? statistic<acc>(p.std, p.channels, e) : acc(1);
    const acc mean = p.mean.data ? statistic<acc>(p.mean, p.channels, e) : acc(0);
    const acc factor = p.times_std ? std : 1 / std;
    const int64_t channel = p.channels_last
                                ? place_in_tile<acc>(c)
                                : p.channels.position[e] * int64_t(p.grid.area.divisor) *
                                      Memory<result_t>::size(p.result_type);
    entries[slot_of(p.channels, e, by_coefficient)] = {dct * factor, -mean * factor, channel};
  }
}

// Column u of a component's coefficients in a block, rounded where they are.
template <class acc>
__device__ __forceinline__ void transform_column(const AnalysisParams<acc>& p,
                                                 const Planes<acc>& planes, int k, int u, int block,
                                                 acc (&column)[kBlock]) {
#pragma unroll
  for (int y = 0; y < kBlock; ++y) column[y] = planes[k][u][y * kPitch<acc> + block];
  dct8<acc>(column);
  if (p.rounded) {
#pragma unroll
    for (int v = 0; v < kBlock; ++v)
      column[v] = round_even(column[v] * p.dct_scale[u * kBlock + v]);
  }
}

// Thread blocks on a multiprocessor for which the registers must do: in float32 48 registers a thread,
// or 80 where two rows are held. Shared memory, 31 KB a thread block, admits as many or more on sm_80,
// sm_90 and sm_100, but three on sm_86, sm_89 and sm_120, which have 100 KB. sm_75 has room for 1024
// threads.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int kMostResident = 4;
#else
constexpr int kMostResident = 5;
#endif
template <class acc, bool kSmoothed>
constexpr int kResident = sizeof(acc) == 4 ? (kSmoothed ? 3 : kMostResident) : (kSmoothed ? 2 : 4);

// The gates of two pictures, where the entries are: that of a tile's first block and the next.
template <class acc>
using Gates = acc[2][kChannels];

template <class acc>
__device__ __forceinline__ acc load_gate(const AnalysisParams<acc>& p, uint32_t picture, int e) {
  return load<AnyType, acc>(p.gate.data, p.gate.type,
                            int64_t(picture) * p.channels.count + p.channels.position[e]);
}

template <class acc>
__device__ __forceinline__ void prepare_gates(const AnalysisParams<acc>& p, uint32_t first,
                                              bool by_coefficient, Gates<acc>& gates) {
  const uint32_t last = quotient(p.grid.blocks - 1, p.grid.area);
#pragma unroll 1
  for (int e = int(threadIdx.x); e < p.channels.count; e += kThreads<acc>) {
    const int slot = slot_of(p.channels, e, by_coefficient);
    gates[0][slot] = load_gate(p, first, e);
    gates[1][slot] = load_gate(p, smaller(first + 1, last), e);
  }
}

// A closed channel is zero, also where its coefficient is NaN.
template <class acc>
__device__ __forceinline__ acc gated(acc x, acc gate) {
  return gate == 0 ? acc(0) : x * gate;
}

// kSmoothed: chroma "dctnet", which needs neighbouring blocks and more registers. kGated: results
// times a gate.
template <class scalar_t, class result_t, class acc, bool kSmoothed, bool kGated = false>
__global__ void __launch_bounds__(kThreads<acc>, kResident<acc, kSmoothed>)
    analysis_kernel(const __grid_constant__ AnalysisParams<acc> p) {
  __shared__ Planes<acc> planes;
  __shared__ Entry<acc> entries[kChannels];
  [[maybe_unused]] __shared__ Gates<acc> gates;

  const uint32_t first = blockIdx.x * kTile<acc>;
  const int thread = int(threadIdx.x);
  // A tile holds blocks of two pictures at most, unless they have fewer blocks than fit between their
  // neighbours. Gates of such small pictures, or of repeated coefficients, are read where they are.
  const bool two_pictures = !kGated || p.grid.area.divisor >= kTile<acc> - 1;
  const bool by_coefficient = !p.channels_last && !p.channels.repeated && two_pictures;
  [[maybe_unused]] const uint32_t first_picture = kGated ? quotient(first, p.grid.area) : 0;
  prepare_entries<result_t>(p, by_coefficient, entries);
  if constexpr (kGated) prepare_gates(p, first_picture, by_coefficient, gates);
  {
    const int block = thread / kBlock, y = thread % kBlock;
    // Threads past the end repeat the last block, so that shuffles find whole warps.
    const Place at = place(smaller(first + block, p.grid.blocks - 1), p.grid);
    acc row[kComponents][kBlock];
    if constexpr (kSmoothed) {
      load_smoothed<scalar_t>(p, at, y, row);
    } else {
      load_plain<scalar_t>(p, at, y, row);
    }
#pragma unroll
    for (int k = 0; k < kComponents; ++k) {
      dct8<acc>(row[k]);
#pragma unroll
      for (int u = 0; u < kBlock; ++u)
        if (p.channels.columns[k] >> u & 1) planes[k][u][y * kPitch<acc> + block] = row[k][u];
    }
  }
  __syncthreads();

  const int u = thread / kTile<acc>, block = thread % kTile<acc>;
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
      if (!(p.channels.columns[k] >> u & 1)) continue;
      acc column[kBlock];
      transform_column(p, planes, k, u, block, column);
      const int c = (k * kBlock + u) * kBlock;
      if (by_coefficient) {
        // Each of a half costs instructions, present or not: high frequencies are often left out.
        const unsigned present = p.channels.present[k * kBlock + u];
#pragma unroll
        for (int half = 0; half < kBlock; half += kBlock / 2) {
          if (!(present >> half & 0xf)) continue;
#pragma unroll
          for (int v = half; v < half + kBlock / 2; ++v) {
            if (!(present >> v & 1)) continue;
            const Entry<acc> entry = load_entry(entries[c + v]);
            acc x = column[v] * entry.scale + entry.offset;
            if constexpr (kGated) x = gated(x, gates[at.picture - first_picture][c + v]);
            Memory<result_t>::store(first_channel + entry.channel, p.result_type, x);
          }
        }
        continue;
      }
      const uint8_t* start = p.channels.column_start + c;
#pragma unroll
      for (int v = 0; v < kBlock; ++v)
#pragma unroll 1
        for (int e = start[v]; e < start[v + 1]; ++e) {
          const Entry<acc> entry = load_entry(entries[e]);
          acc x = column[v] * entry.scale + entry.offset;
          if constexpr (kGated) x = gated(x, load_gate(p, at.picture, e));
          Memory<result_t>::store(first_channel + entry.channel, p.result_type, x);
        }
    }
    return;
  }

  // A tile's channels lie together in memory: once all coefficients are there, a warp writes one
  // block's after the other's. Each thread puts its own where it read from: no barrier in between.
#pragma unroll 1
  for (int k = 0; k < kComponents; ++k) {
    if (!(p.channels.columns[k] >> u & 1)) continue;
    acc column[kBlock];
    transform_column(p, planes, k, u, block, column);
#pragma unroll
    for (int v = 0; v < kBlock; ++v) planes[k][u][v * kPitch<acc> + block] = column[v];
  }
  __syncthreads();
#pragma unroll 1
  for (int b = thread / 32; b < kTile<acc> && first + b < p.grid.blocks; b += kThreads<acc> / 32) {
    [[maybe_unused]] const uint32_t picture = kGated ? quotient(first + b, p.grid.area) : 0;
    char* const first_channel = result + int64_t(first + b) * p.channels.count * size;
#pragma unroll 2
    for (int e = thread % 32; e < p.channels.count; e += 32) {
      const Entry<acc> entry = load_entry(entries[e]);
      acc x = (&planes[0][0][0])[int(entry.channel) + b];
      x = x * entry.scale + entry.offset;
      if constexpr (kGated)
        x = gated(x, two_pictures ? gates[picture - first_picture][e] : load_gate(p, picture, e));
      Memory<result_t>::store(first_channel + e * size, p.result_type, x);
    }
  }
}

}  // namespace freqops::cuda
