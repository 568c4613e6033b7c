// Coefficients of JPEG files onto one grid. A thread block makes a run of 32 blocks of one row of
// the result, of all three components:
//
//   1  one thread per row of a block: 8 coefficients of 16 bits in, times steps, mapped across
//   2  one thread per column of coefficients: mapped down, normalised, each channel a run of blocks
//
// with shared memory between the two, as in analysis.cuh. A warp reads four whole blocks, 512
// neighbouring bytes; blocks that are repeated across are read by lanes of the same access, those
// that are repeated down by thread blocks that run at the same time, from the second-level cache.
// Results are written once. Banks: rows go in and columns come out as tile.cuh says; the steps of a
// warp's eight rows are 256 neighbouring bytes, which four blocks share.
//
// Mapping across first takes rows as they come from memory: no source has to fit shared memory,
// however many of them a result is made of.
#include "jpeg_gather.h"

#include "analysis.cuh"

namespace freqops::cuda {

namespace {

static_assert(kRun == kTile<float> && kGatherThreads == kThreads<float>);
static_assert(kGatherThreads >= kChannels);

// Thread blocks on a multiprocessor for which the registers must do: 48 a thread, as in the
// analysis, or 80 where sums of several blocks are held. Shared memory, 31 KB, admits as many on
// sm_80, sm_90 and sm_100, three on those with 100 KB.
constexpr int kFullSizeResident = kMostResident, kScaledResident = 3;

struct alignas(16) Steps {
  float of[kComponents][kCoefficients];
};

// From column u to u + 1 in Planes.
constexpr int kColumn = kBlock * kPitch<float> + 1;

// Eight coefficients as they lie in memory.
using Line = Wide<int16_t>;

__device__ __forceinline__ Line load_line(const int16_t* at, bool wide) {
  if (wide) return *reinterpret_cast<const Line*>(at);
  Line line;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    line.word[i] = uint32_t(uint16_t(at[2 * i])) | uint32_t(uint16_t(at[2 * i + 1])) << 16;
  return line;
}

// Values times steps. float32 2^23 + n has the integer n in its low bits (rows.cuh), here
// n = value + 2^15: half an exclusive or, moved bytes and one subtraction in place of a conversion
// of an eighth of their rate.
__device__ __forceinline__ void dequantise(const Line& line, const float* steps,
                                           float (&x)[kBlock]) {
  constexpr float kOffset = kTwoTo23 + 32768;
  float step[kBlock];
  load_run<float>(reinterpret_cast<const char*>(steps), step);
#pragma unroll
  for (int i = 0; i < kBlock; ++i) {
    const uint32_t word = line.word[i / 2] ^ 0x80008000;
    const uint32_t bits = permute_bytes(word, 0x4b000000, i % 2 == 0 ? 0x7410 : 0x7432);
    x[i] = (bit_cast<float>(bits) - kOffset) * step[i];
  }
}

// (-1)^i x[i], where it is asked for.
__device__ __forceinline__ void mirror(float (&x)[kBlock], bool mirrored) {
  const float sign = mirrored ? -1.0f : 1.0f;
#pragma unroll
  for (int i = 1; i < kBlock; i += 2) x[i] *= sign;
}

// The sum of matrix_row[i] x[i].
__device__ __forceinline__ float product(const float* matrix_row, const float (&x)[kBlock]) {
  float row[kBlock];
  load_run<float>(reinterpret_cast<const char*>(matrix_row), row);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kBlock; ++i) sum += row[i] * x[i];
  return sum;
}

// Part p of f = 2^log parts of a block, by the matrices of the first half. They are read with an
// index that the compiler knows: from the kernel's parameters, as operands of the products.
template <int kHalves>
__device__ __forceinline__ void split(const float (&matrices)[kHalves][kCoefficients], int log,
                                      int part, bool mirrored, unsigned wanted,
                                      float (&x)[kBlock]) {
  const bool late = part >> (log - 1) != 0;
  const int half = late ? (1 << log) - 1 - part : part;
  mirror(x, late);
  float to[kBlock] = {};
#pragma unroll
  for (int h = 0; h < kHalves; ++h) {
    if (h != half) continue;
#pragma unroll
    for (int v = 0; v < kBlock; ++v) {
      if (!(wanted >> v & 1)) continue;
#pragma unroll
      for (int u = 0; u < kBlock; ++u) to[v] += matrices[h][v * kBlock + u] * x[u];
    }
  }
  mirror(to, late != mirrored);
#pragma unroll
  for (int v = 0; v < kBlock; ++v) x[v] = to[v];
}

// A run of the launch. Columns and blocks of a picture fit 32 bits: check_grid.
struct Run {
  Place place;  // of the run; its column counts runs
  int first;    // column of its first block
  int count;    // blocks

  __device__ __forceinline__ explicit Run(const GatherParams& p)
      : place(cuda::place(blockIdx.x, p.grid)),
        first(int(place.column) * kRun),
        count(smaller(p.columns - first, kRun)) {}

  // Of the result; threads past the end repeat the last block.
  __device__ __forceinline__ int column(int block) const {
    return first + smaller(block, count - 1);
  }
  // The first channel of its first block, as an element of the result.
  __device__ __forceinline__ int64_t start(const GatherParams& p) const {
    const uint32_t block = place.row * uint32_t(p.columns) + uint32_t(first);
    const int64_t pictures = int64_t(place.picture) * p.area;
    return p.channels_last ? (pictures + block) * p.channels.count
                           : pictures * p.channels.count + block;
  }
};

// With one entry for a coefficient at most a thread finds those of its column where they must be.
__device__ __forceinline__ bool by_coefficient(const GatherParams& p) {
  return !p.channels_last && !p.channels.repeated;
}

template <class result_t>
__device__ __forceinline__ void prepare(const GatherParams& p, const Run& run, Steps& steps,
                                        Entry<float> (&entries)[kChannels]) {
  const int thread = int(threadIdx.x);
  if (thread < kChannels) {
    const int k = thread / kCoefficients, i = thread % kCoefficients;
    const GatherSource& s = p.sources[k];
    steps.of[k][i] = s.steps ? float(s.steps[run.place.picture * s.stride_steps + i]) : 1.0f;
  }
  if (thread < p.channels.count) {
    const int e = thread, c = p.channels.coefficient[e];
    const float std = p.std.data ? statistic<float>(p.std, p.channels, e) : 1.0f;
    const float mean = p.mean.data ? statistic<float>(p.mean, p.channels, e) : 0.0f;
    const int64_t channel =
        p.channels_last ? place_in_tile<float>(c)
                        : p.channels.position[e] * int64_t(p.area) * int64_t(sizeof(result_t));
    entries[slot_of(p.channels, e, by_coefficient(p))] = {1 / std, -mean / std, channel};
  }
}

// Column u of a component's coefficients in a block, to its channels' planes; for channels_last
// back to shared memory, where it came from.
template <class result_t>
__device__ __forceinline__ void put_column(const GatherParams& p, const Run& run, int k, int u,
                                           int block, const float (&column)[kBlock],
                                           const Entry<float> (&entries)[kChannels],
                                           Planes<float>& planes) {
  if (p.channels_last) {
#pragma unroll
    for (int v = 0; v < kBlock; ++v) planes[k][u][v * kPitch<float> + block] = column[v];
    return;
  }
  if (block >= run.count) return;
  char* const at =
      static_cast<char*>(p.result) + (run.start(p) + block) * int64_t(sizeof(result_t));
  const int c = (k * kBlock + u) * kBlock;
  const uint8_t* start = p.channels.column_start + c;
  const unsigned present = p.channels.present[k * kBlock + u];
#pragma unroll
  for (int v = 0; v < kBlock; ++v) {
    if (!(present >> v & 1)) continue;
    if (!p.channels.repeated) {
      const Entry<float> entry = load_entry(entries[c + v]);
      const float x = column[v] * entry.scale + entry.offset;
      Memory<result_t>::store(at + entry.channel, p.result_type, x);
      continue;
    }
#pragma unroll 1
    for (int e = start[v]; e < start[v + 1]; ++e) {
      const Entry<float> entry = load_entry(entries[e]);
      const float x = column[v] * entry.scale + entry.offset;
      Memory<result_t>::store(at + entry.channel, p.result_type, x);
    }
  }
}

// A warp writes one block's channels after the other's.
template <class result_t>
__device__ __forceinline__ void write_pixels(const GatherParams& p, const Run& run,
                                             const Entry<float> (&entries)[kChannels],
                                             const Planes<float>& planes) {
  const int warp = int(threadIdx.x / 32), lane = int(threadIdx.x % 32);
  const int channels = p.channels.count;
  char* const result = static_cast<char*>(p.result) + run.start(p) * int64_t(sizeof(result_t));
#pragma unroll 1
  for (int b = warp; b < run.count; b += kGatherThreads / 32) {
#pragma unroll 2
    for (int e = lane; e < channels; e += 32) {
      const Entry<float> entry = load_entry(entries[e]);
      const float x = (&planes[0][0][0])[int(entry.channel) + b] * entry.scale + entry.offset;
      Memory<result_t>::store(result + (b * channels + e) * sizeof(result_t), p.result_type, x);
    }
  }
}

// At full size: a result is part of one block.
template <class result_t>
__global__ void __launch_bounds__(kGatherThreads, kFullSizeResident)
    gather_kernel(const __grid_constant__ FullSizeParams p) {
  __shared__ Planes<float> planes;
  __shared__ Entry<float> entries[kChannels];
  __shared__ Steps steps;

  const GatherParams& all = p.all;
  const Run run(all);
  const int64_t down = p.top + run.place.row;
  {
    const int block = int(threadIdx.x / kBlock), v = int(threadIdx.x % kBlock);
    const int column = run.column(block);
    const int64_t across = p.left + (p.mirrored ? all.columns - 1 - column : column);
    Line lines[kComponents] = {};  // on their way while steps and entries are made
#pragma unroll
    for (int k = 0; k < kComponents; ++k) {
      const GatherSource& s = all.sources[k];
      if (!(s.rows >> v & 1)) continue;
      lines[k] = load_line(s.blocks + run.place.picture * s.stride_n +
                               (down >> p.log_down[k]) * s.stride_y +
                               (across >> p.log_across[k]) * s.stride_x + v * kBlock,
                           s.wide);
    }
    prepare<result_t>(all, run, steps, entries);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kComponents; ++k) {
      const unsigned columns = all.channels.columns[k];
      if (columns == 0) continue;
      float x[kBlock];
      dequantise(lines[k], steps.of[k] + v * kBlock, x);
      const int log = k == 0 ? 0 : p.log_across[k];
      if (log > 0) {
        split(p.across, log, int(across & ((1 << log) - 1)), p.mirrored, columns, x);
      } else {
        mirror(x, p.mirrored);
      }
#pragma unroll
      for (int u = 0; u < kBlock; ++u)
        if (columns >> u & 1) planes[k][u][v * kPitch<float> + block] = x[u];
    }
  }
  __syncthreads();

  const int u = int(threadIdx.x / kRun), block = int(threadIdx.x % kRun);
#pragma unroll 1
  for (int k = 0; k < kComponents; ++k) {
    if (!(all.channels.columns[k] >> u & 1)) continue;
    float x[kBlock];
#pragma unroll
    for (int v = 0; v < kBlock; ++v) x[v] = planes[k][u][v * kPitch<float> + block];
    if (p.log_down[k] > 0)
      split(p.down, 1, int(down & 1), false, all.channels.present[k * kBlock + u], x);
    put_column<result_t>(all, run, k, u, block, x, entries, planes);
  }
  if (!all.channels_last) return;
  __syncthreads();
  write_pixels<result_t>(all, run, entries, planes);
}

// Scaled: a result is a sum over some blocks down and across. Matrices come from memory: lanes of a
// warp share them down, and four blocks have four at most across.
template <class result_t>
__global__ void __launch_bounds__(kGatherThreads, kScaledResident)
    scaled_gather_kernel(const __grid_constant__ ScaledParams p) {
  __shared__ Planes<float> planes;
  __shared__ Entry<float> entries[kChannels];
  __shared__ Steps steps;

  const GatherParams& all = p.all;
  const Run run(all);
  const int row_block = int(threadIdx.x / kBlock), row = int(threadIdx.x % kBlock);    // of step 1
  const int column = int(threadIdx.x / kRun), column_block = int(threadIdx.x % kRun);  // of step 2
  prepare<result_t>(all, run, steps, entries);
  __syncthreads();

#pragma unroll 1
  for (int k = 0; k < kComponents; ++k) {
    const unsigned columns = all.channels.columns[k];
    if (columns == 0) continue;
    const GatherSource& s = all.sources[k];
    float sums[kBlock] = {};
    if (s.blocks != nullptr) {
      const AxisMap::Block& down = p.down[k].blocks[run.place.row];
      const AxisMap::Block& across = p.across[k].blocks[run.column(row_block)];
      const int down_count = down.count, across_count = across.count;
      const float* down_matrix = p.down[k].matrices + int64_t(down.matrix) * kCoefficients;
      const float* const across_matrices =
          p.across[k].matrices + int64_t(across.matrix) * kCoefficients;
      const int16_t* from = s.blocks + run.place.picture * s.stride_n + down.first * s.stride_y +
                            across.first * s.stride_x + row * kBlock;
#pragma unroll 1
      for (int i = 0; i < down_count; ++i, from += s.stride_y, down_matrix += kCoefficients) {
        __syncthreads();  // the columns of the blocks above are read
        float* const mapped = &planes[k][0][row * kPitch<float> + row_block];
#pragma unroll
        for (int u = 0; u < kBlock; ++u) mapped[u * kColumn] = 0;
        if (s.rows >> row & 1) {
          const int16_t* at = from;
          const float* matrix = across_matrices;
#pragma unroll 1
          for (int j = 0; j < across_count; ++j, at += s.stride_x, matrix += kCoefficients) {
            float x[kBlock];
            dequantise(load_line(at, s.wide), steps.of[k] + row * kBlock, x);
#pragma unroll 2
            for (int u = 0; u < kBlock; ++u)
              if (columns >> u & 1) mapped[u * kColumn] += product(matrix + u * kBlock, x);
          }
        }
        __syncthreads();
        if (!(columns >> column & 1)) continue;
        float x[kBlock];
#pragma unroll
        for (int v = 0; v < kBlock; ++v) x[v] = planes[k][column][v * kPitch<float> + column_block];
        const unsigned present = all.channels.present[k * kBlock + column];
#pragma unroll
        for (int v = 0; v < kBlock; ++v)
          if (present >> v & 1) sums[v] += product(down_matrix + v * kBlock, x);
      }
    }
    if (columns >> column & 1)
      put_column<result_t>(all, run, k, column, column_block, sums, entries, planes);
  }
  if (!all.channels_last) return;
  __syncthreads();
  write_pixels<result_t>(all, run, entries, planes);
}

__global__ void __launch_bounds__(kGatherThreads)
    upload_kernel(const __grid_constant__ UploadParams p) {
  const int i = int(threadIdx.x);
  if (i < p.count) p.to[i] = p.words[i];
}

static_assert(kUploadWords <= kGatherThreads);

}  // namespace

cudaError_t launch_gather(const FullSizeParams& params, cudaStream_t stream) {
  const unsigned runs = params.all.grid.blocks;
  switch (params.all.result_type) {
    case Type::kHalf: return launch(gather_kernel<__half>, runs, kGatherThreads, stream, params);
    case Type::kBfloat16:
      return launch(gather_kernel<__nv_bfloat16>, runs, kGatherThreads, stream, params);
    default: return launch(gather_kernel<float>, runs, kGatherThreads, stream, params);
  }
}

cudaError_t launch_gather(const ScaledParams& params, cudaStream_t stream) {
  const unsigned runs = params.all.grid.blocks;
  switch (params.all.result_type) {
    case Type::kHalf:
      return launch(scaled_gather_kernel<__half>, runs, kGatherThreads, stream, params);
    case Type::kBfloat16:
      return launch(scaled_gather_kernel<__nv_bfloat16>, runs, kGatherThreads, stream, params);
    default: return launch(scaled_gather_kernel<float>, runs, kGatherThreads, stream, params);
  }
}

cudaError_t launch_upload(const UploadParams& params, cudaStream_t stream) {
  return launch(upload_kernel, 1, kGatherThreads, stream, params);
}

}  // namespace freqops::cuda
