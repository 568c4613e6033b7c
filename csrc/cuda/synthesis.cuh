// Coefficients to pixels, the analysis backwards. A thread block takes a tile of consecutive 8x8
// blocks:
//
//   1  one thread per column of coefficients: gather, scale, transposed vertical DCT
//   2  one thread per row of a block: transposed horizontal DCT, colours, 8 pixels x 3 colours out
//
// with shared memory between the two. 2x2 averages and the sums over replicated edges are products
// of a vertical and a horizontal step, so each is done in registers on its own side.
#pragma once

#include "rows.cuh"

namespace freqops::cuda {

// The share of one axis in the 2x2 means.
template <class acc>
__device__ __forceinline__ void average_pairs(acc (&x)[kBlock]) {
#pragma unroll
  for (int i = 0; i < kBlock; i += 2) x[i] = x[i + 1] = (x[i] + x[i + 1]) * acc(.5);
}

// Adds what lies beyond pixel `last` of the block to it: the transpose of replication.
template <class acc>
__device__ __forceinline__ void fold(acc (&x)[kBlock], int last) {
#pragma unroll
  for (int i = kBlock - 1; i > 0; --i)
    if (i > last) x[i - 1] += x[i];
}

// Coefficient = sum of channel * scale + base, the scale of the DCT's inputs included; base is the
// mean, by component * 64 + u * 8 + v.
template <class scalar_t, class acc>
__device__ __forceinline__ void prepare_entries(const SynthesisParams<acc>& p,
                                                Entry<acc> (&entries)[kChannels],
                                                acc (&base)[kChannels]) {
  const int64_t pitch = p.coefficients.stride_c * Memory<scalar_t>::size(p.coefficients.type);
#pragma unroll 1
  for (int e = int(threadIdx.x); e < p.channels.count; e += kThreads<acc>) {
    const acc dct = p.dct_scale[p.channels.coefficient[e] % kCoefficients];
    const acc std = p.std.data ? statistic<acc>(p.std, p.channels, e) : acc(1);
    entries[slot_of(p.channels, e, !p.channels.repeated)] = {
        dct * (p.times_std ? std : 1 / std), acc(0), p.channels.position[e] * pitch};
  }
#pragma unroll 1
  for (int s = int(threadIdx.x); s < kChannels; s += kThreads<acc>) {
    const int e = p.channels.column_start[s];
    acc mean = 0;
    if (p.mean.data && p.mean.by_coefficient) {
      mean = element<acc>(p.mean, transposed(s));  // of absent channels too
    } else if (p.mean.data && e < p.channels.column_start[s + 1]) {
      mean = statistic<acc>(p.mean, p.channels, e);
    }
    base[s] = mean * p.dct_scale[s % kCoefficients];
  }
}

template <class scalar_t, class result_t, class acc>
__global__ void __launch_bounds__(kThreads<acc>, 4)
    synthesis_kernel(const __grid_constant__ SynthesisParams<acc> p) {
  __shared__ Planes<acc> planes;
  __shared__ Entry<acc> entries[kChannels];
  alignas(16) __shared__ acc base[kChannels];

  const uint32_t first = blockIdx.x * kTile<acc>;
  const int thread = int(threadIdx.x);
  prepare_entries<scalar_t>(p, entries, base);
  __syncthreads();

  {
    const int u = thread / kTile<acc>, block = thread % kTile<acc>;
    // Threads past the end repeat the last block: reads stay inside, and nothing of it is written.
    const Place at = place(smaller(first + block, p.grid.blocks - 1), p.grid);
    const View& view = p.coefficients;
    const int64_t at_input =
        at.picture * view.stride_n + at.row * view.stride_h + at.column * view.stride_w;
    const char* const first_channel =
        static_cast<const char*>(view.data) + at_input * Memory<scalar_t>::size(view.type);
#pragma unroll 1
    for (int k = 0; k < kComponents; ++k) {
      if (!(p.channels.columns[k] >> u & 1)) continue;
      const int s = (k * kBlock + u) * kBlock;
      const auto load_channel = [&](const Entry<acc>& entry) {
        return Memory<scalar_t>::template load<acc>(first_channel + entry.channel, view.type);
      };
      acc column[kBlock];
      if (!p.channels.repeated) {
        const unsigned present = p.channels.present[s / kBlock];
        acc scale[kBlock];
        // Eight loads on their way before any is used.
#pragma unroll
        for (int v = 0; v < kBlock; ++v) {
          column[v] = scale[v] = 0;
          if (present >> v & 1) {
            const Entry<acc> entry = load_entry(entries[s + v]);
            scale[v] = entry.scale;
            column[v] = load_channel(entry);
          }
        }
#pragma unroll
        for (int v = 0; v < kBlock; ++v) column[v] = base[s + v] + column[v] * scale[v];
      } else {
        const uint8_t* start = p.channels.column_start + s;
#pragma unroll
        for (int v = 0; v < kBlock; ++v) {
          column[v] = base[s + v];
#pragma unroll 1
          for (int e = start[v]; e < start[v + 1]; ++e)
            column[v] += load_channel(entries[e]) * entries[e].scale;
        }
      }
      dct8_transposed<acc>(column);
      if (k > 0 && p.chroma == Chroma::k420) average_pairs(column);
      if (p.edge == Edge::kReplicate) fold(column, p.height - 1 - int(at.row) * kBlock);
#pragma unroll
      for (int y = 0; y < kBlock; ++y) planes[k][u][y * kPitch<acc> + block] = column[y];
    }
  }
  __syncthreads();

  const int block = thread / kBlock, y = thread % kBlock;
  if (first + block >= p.grid.blocks) return;
  const Place at = place(first + block, p.grid);
  const int row = int(at.row) * kBlock + y, column = int(at.column) * kBlock;
  if (row >= p.height || column >= p.width) return;
  acc pixels[kComponents][kBlock];
#pragma unroll
  for (int k = 0; k < kComponents; ++k) {
#pragma unroll
    for (int u = 0; u < kBlock; ++u)
      pixels[k][u] =
          p.channels.columns[k] >> u & 1 ? planes[k][u][y * kPitch<acc> + block] : acc(0);
    dct8_transposed<acc>(pixels[k]);
    if (k > 0 && p.chroma == Chroma::k420) average_pairs(pixels[k]);
    if (p.edge == Edge::kReplicate) fold(pixels[k], p.width - 1 - column);
  }
  if (!p.planes_only) {
#pragma unroll
    for (int i = 0; i < kBlock; ++i) {
      const acc luma = pixels[0][i], blue = pixels[1][i], red = pixels[2][i];
#pragma unroll
      for (int c = 0; c < kComponents; ++c) {
        const auto& m = p.matrix.m[c];
        pixels[c][i] = m[0] * luma + (m[1] * blue + (m[2] * red + p.shift));
      }
    }
  }
  const int64_t area = int64_t(p.height) * p.width;
  const int64_t at_result =
      int64_t(at.picture) * kComponents * area + int64_t(row) * p.width + column;
  const int64_t size = Memory<result_t>::size(p.result_type);
  char* const result = static_cast<char*>(p.result) + at_result * size;
  if constexpr (!std::is_same_v<result_t, AnyType>) {
    if (p.wide) {
#pragma unroll
      for (int c = 0; c < kComponents; ++c)
        store_run<result_t>(result + c * area * size, pixels[c]);
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < kBlock; ++i) {
    if (column + i >= p.width) return;
#pragma unroll
    for (int c = 0; c < kComponents; ++c)
      Memory<result_t>::store(result + (c * area + i) * size, p.result_type, pixels[c][i]);
  }
}

constexpr int kPixelThreads = 256;

template <class acc>
unsigned pixel_blocks(const SmoothedAdjointParams<acc>& params) {
  return unsigned((params.pixels + kPixelThreads - 1) / kPixelThreads);
}

// The transpose of the "dctnet" planes: [1 6 1] / 8 in both directions over planes that the synthesis
// kernel left in memory (its own transpose: replicated edges leave 7/8 on the diagonal at both ends),
// then the transpose of the 3x3 matrix and of the replication. One thread per pixel of the picture;
// the last column and row sum what replicates them, so no two threads write one element. It costs
// 12 bytes a pixel written and read again; smoothing inside the synthesis kernel would need the
// coefficients of the eight blocks around.
template <class result_t, class acc>
__global__ void __launch_bounds__(kPixelThreads)
    smoothed_adjoint_kernel(const __grid_constant__ SmoothedAdjointParams<acc> p) {
  const int64_t pixel = int64_t(blockIdx.x) * kPixelThreads + threadIdx.x;
  if (pixel >= p.pixels) return;
  const int column = int(pixel % p.width);
  const int row = int(pixel / p.width % p.height);
  const int64_t picture = pixel / p.width / p.height;
  const int last_row = row == p.height - 1 ? p.padded_height - 1 : row;
  const int last_column = column == p.width - 1 ? p.padded_width - 1 : column;
  const int64_t area = int64_t(p.padded_height) * p.padded_width;
  const acc* y = p.planes + picture * kComponents * area;

  acc sum[kComponents] = {};
  for (int r = row; r <= last_row; ++r) {
    const int64_t up = int64_t(larger(r - 1, 0)) * p.padded_width;
    const int64_t here = int64_t(r) * p.padded_width;
    const int64_t down = int64_t(smaller(r + 1, p.padded_height - 1)) * p.padded_width;
    for (int c = column; c <= last_column; ++c) {
      const int left = larger(c - 1, 0), right = smaller(c + 1, p.padded_width - 1);
      sum[0] += y[here + c];
#pragma unroll
      for (int k = 1; k < kComponents; ++k) {
        const acc* q = y + k * area;
        const acc corners = (q[up + left] + q[up + right]) + (q[down + left] + q[down + right]);
        const acc sides = (q[up + c] + q[down + c]) + (q[here + left] + q[here + right]);
        sum[k] += (corners + 6 * sides + 36 * q[here + c]) * acc(1. / 64);
      }
    }
  }
  const int64_t pixels = int64_t(p.height) * p.width;
  const int64_t at = picture * kComponents * pixels + int64_t(row) * p.width + column;
#pragma unroll
  for (int c = 0; c < kComponents; ++c) {
    const auto& m = p.matrix.m[c];
    store<result_t>(p.result, p.result_type, at + c * pixels,
                    m[0] * sum[0] + (m[1] * sum[1] + m[2] * sum[2]));
  }
}

}  // namespace freqops::cuda
