// The channel gate and its gradient: math/gumbel.h has the formulas, gumbel_gate.h how the work is
// shared out. Memory-bound, so the measure is bytes: x and grad_y are read once, and forward a closed
// channel is not read at all; 16 bytes an access where memory lies so.
//
// Sums over pixels have a fixed order: a thread's own, then its neighbours', then those of the parts
// of a plane, which a second kernel adds up. No atomics.
#pragma once

#include "../math/gumbel.h"
#include "gumbel_gate.h"
#include "pack.cuh"

namespace freqops::cuda {

// Packs of grad_y, and of x, that a thread has on their way at a time: half as many where their eight
// sums and gates take the registers.
template <class Pack>
constexpr int kBatch = Pack::kCount == 8 ? kAtOnce / 2 : kAtOnce;

// Thread blocks on a multiprocessor for which the registers must do: 64 a thread forward, 80 backward.
constexpr int kForwardResident = 4, kBackwardResident = 3;

// Element k times its gate. A closed gate hides what is not finite, an open one changes no bit.
template <class acc, class Pack>
__device__ __forceinline__ void scale(Pack& pack, Type type, int k, acc gate) {
  if (gate == acc(0)) {
    pack.set(type, k, acc(0));
  } else if (gate != acc(1)) {
    pack.set(type, k, pack.template value<acc>(type, k) * gate);
  }
}

// All elements times the gate that they share.
template <class acc, class Pack>
__device__ __forceinline__ void scale(Pack& pack, Type type, acc gate) {
  if (gate == acc(1)) return;
#pragma unroll
  for (int k = 0; k < Pack::kCount; ++k) scale(pack, type, k, gate);
}

// --- gates, by number n C + c ---------------------------------------------------------------------

template <class acc>
__device__ __forceinline__ acc read(const Operand& o, int64_t i) {
  return load<AnyType, acc>(o.data, o.type, i);
}

// z = on - off + noise.
template <class acc>
__device__ __forceinline__ acc read_z(const GateOperands& g, int64_t channel) {
  const acc off = read<acc>(g.logits, 2 * channel), on = read<acc>(g.logits, 2 * channel + 1);
  const acc z = on - off;
  return g.noise.data ? z + read<acc>(g.noise, channel) : z;
}

template <class acc>
__device__ __forceinline__ acc read_tau(const GateOperands& g) {
  return g.tau.data ? read<acc>(g.tau, 0) : acc(1);
}

template <class acc>
__device__ __forceinline__ acc read_gate(const GateOperands& g, int64_t channel) {
  return gate_value(read_z<acc>(g, channel), g.hard ? acc(1) : read_tau<acc>(g), g.hard);
}

// grad_logits of a channel, from its sum over all pixels.
template <class acc>
__device__ __forceinline__ void store_grad_logits(const GateBackwardParams& p, int64_t channel,
                                                  acc total) {
  if (p.grad_gate.data) total += read<acc>(p.grad_gate, channel);
  const acc slope = gate_slope(read_z<acc>(p.operands, channel), read_tau<acc>(p.operands));
  const acc change = total * slope;
  store<AnyType>(p.grad_logits, p.operands.logits.type, 2 * channel, -change);
  store<AnyType>(p.grad_logits, p.operands.logits.type, 2 * channel + 1, change);
}

// The same from one part of the pixels: at once where that is all, else later.
template <class acc>
__device__ __forceinline__ void deliver(const GateBackwardParams& p, int64_t channel, int64_t part,
                                        acc sum) {
  if (p.parts == 1) {
    store_grad_logits(p, channel, sum);
  } else {
    static_cast<acc*>(p.partial)[channel * p.parts + part] = sum;
  }
}

// The sum of a few values, pairwise.
template <class acc, int kCount>
__device__ __forceinline__ acc sum_of(acc (&x)[kCount]) {
#pragma unroll
  for (int half = kCount / 2; half > 0; half /= 2)
#pragma unroll
    for (int k = 0; k < half; ++k) x[k] += x[k + half];
  return x[0];
}

// --- contiguous: [N C, H W] -----------------------------------------------------------------------

// What a thread has of a segment: every `step`-th pack of it.
struct Share {
  int64_t plane, segment;
  int64_t element;  // its first in the features
  int lane, lanes;
  int first, step, length;  // in elements of the segment; length is 0 beyond the last segment

  __device__ __forceinline__ Share(const Segments& s, int64_t first_block, int count)
      : lanes(1 << s.log_lanes) {
    const int64_t unit =
        (first_block + blockIdx.x) * (kGateThreads >> s.log_lanes) + (threadIdx.x >> s.log_lanes);
    plane = s.count == 1 ? unit : unit / s.count;
    segment = s.count == 1 ? 0 : unit - plane * s.count;
    lane = int(threadIdx.x) & (lanes - 1);
    first = lane * count;
    step = lanes * count;
    const int64_t start = segment * s.length, rest = s.pixels - start;
    length = plane >= s.planes ? 0 : rest < s.length ? int(rest) : s.length;
    element = plane * s.pixels + start + first;
  }
};

template <class Pack, class acc>
__global__ void __launch_bounds__(kGateThreads, kForwardResident)
    gate_planes_kernel(const __grid_constant__ GateParams p) {
  const Share share(p.segments, p.first_block, Pack::kCount);
  if (share.length == 0) return;
  const acc gate = read_gate<acc>(p.operands, share.plane);
  if (p.gate && share.segment == 0 && share.lane == 0)
    store<AnyType>(p.gate, p.operands.logits.type, share.plane, gate);

  const int size = int(Pack::size(p.type)), step = share.step * size;
  const int64_t offset = share.element * size;
  constexpr int kRounds = Pack::kCount > 1 ? kVectorRounds : kElementRounds;
  Pack packs[kRounds] = {};
  if (gate != acc(0)) {
#pragma unroll
    for (int j = 0; j < kRounds; ++j)
      if (share.first + j * share.step < share.length)
        packs[j].load(static_cast<const char*>(p.x) + (offset + j * step), p.type);
#pragma unroll
    for (int j = 0; j < kRounds; ++j) scale(packs[j], p.type, gate);
  }
#pragma unroll
  for (int j = 0; j < kRounds; ++j)
    if (share.first + j * share.step < share.length)
      packs[j].store(static_cast<char*>(p.y) + (offset + j * step), p.type);
}

// The sum over the threads of a segment, in its first one.
template <class acc>
__device__ __forceinline__ acc sum_of_lanes(acc sum, const Share& share) {
  __shared__ acc of_warp[kGateThreads / 32];
  const int warp = int(threadIdx.x) / 32;
  for (int bit = (share.lanes < 32 ? share.lanes : 32) / 2; bit > 0; bit /= 2)
    sum += __shfl_xor_sync(~0u, sum, unsigned(bit));
  if (share.lanes <= 32) return sum;
  if (threadIdx.x % 32 == 0) of_warp[warp] = sum;
  __syncthreads();
  if (share.lane != 0) return sum;
  for (int i = 1; i < share.lanes / 32; ++i) sum += of_warp[warp + i];
  return sum;
}

template <class Pack, class acc>
__global__ void __launch_bounds__(kGateThreads, kBackwardResident)
    gate_backward_planes_kernel(const __grid_constant__ GateBackwardParams p) {
  const Share share(p.segments, p.first_block, Pack::kCount);
  const bool exists = share.length > 0;  // the others stand by for shuffles and barriers
  const acc gate = p.grad_x && exists ? read_gate<acc>(p.operands, share.plane) : acc(0);

  const int size = int(Pack::size(p.type)), step = share.step * size;
  int64_t offset = share.element * size;
  acc sum[Pack::kCount] = {};
#pragma unroll 1
  for (int at = share.first; at < share.length; at += kBatch<Pack> * share.step) {
    Pack grads[kBatch<Pack>] = {}, features[kBatch<Pack>] = {};
#pragma unroll
    for (int j = 0; j < kBatch<Pack>; ++j) {
      if (at + j * share.step >= share.length) continue;
      grads[j].load(static_cast<const char*>(p.grad_y) + (offset + j * step), p.type);
      features[j].load(static_cast<const char*>(p.x) + (offset + j * step), p.type);
    }
#pragma unroll
    for (int j = 0; j < kBatch<Pack>; ++j)
#pragma unroll
      for (int k = 0; k < Pack::kCount; ++k)
        sum[k] +=
            grads[j].template value<acc>(p.type, k) * features[j].template value<acc>(p.type, k);
    if (p.grad_x) {
#pragma unroll
      for (int j = 0; j < kBatch<Pack>; ++j) {
        if (at + j * share.step >= share.length) continue;
        scale(grads[j], p.type, gate);
        grads[j].store(static_cast<char*>(p.grad_x) + (offset + j * step), p.type);
      }
    }
    offset += kBatch<Pack> * step;
  }
  const acc total = sum_of_lanes(sum_of(sum), share);
  if (exists && share.lane == 0) deliver(p, share.plane, share.segment, total);
}

// --- channels_last: [N, H W, C] -------------------------------------------------------------------

// What a thread has of a chunk: kCount channels of every `rows`-th pixel.
struct Walk {
  int64_t chunk;
  int64_t strip;    // number n C + c of the strip's first channel
  int channels;     // of the strip
  int channel;      // the thread's first in the strip
  int64_t element;  // its first in the features
  int row, length;  // pixels of the chunk; 0 in threads beyond the last channel or row

  __device__ __forceinline__ Walk(const Chunks& c, int64_t first_block, int count) {
    const int64_t block = first_block + blockIdx.x;
    const int64_t of_picture = block % c.strips * c.columns * count, chunks = block / c.strips;
    const int64_t picture = chunks / c.count;
    chunk = chunks - picture * c.count;
    strip = picture * c.channels + of_picture;
    const int64_t beside = c.channels - of_picture, start = chunk * c.length,
                  below = c.pixels - start;
    channels = beside < c.columns * count ? int(beside) : c.columns * count;
    row = int(threadIdx.x) / c.columns;
    channel = (int(threadIdx.x) - row * c.columns) * count;
    length = row >= c.rows || channel >= channels ? 0 : below < c.length ? int(below) : c.length;
    element = (picture * c.pixels + start + row) * c.channels + of_picture + channel;
  }
};

// The gates of a strip, in shared memory for all of its rows; forward the first chunk of a picture
// stores them too.
template <class acc>
__device__ __forceinline__ void read_strip(const GateOperands& operands, const Walk& walk,
                                           void* stored, acc* gates) {
  for (int i = int(threadIdx.x); i < walk.channels; i += int(blockDim.x)) {
    gates[i] = read_gate<acc>(operands, walk.strip + i);
    if (stored && walk.chunk == 0)
      store<AnyType>(stored, operands.logits.type, walk.strip + i, gates[i]);
  }
  __syncthreads();
}

template <class Pack, class acc>
__global__ void __launch_bounds__(kGateThreads, kForwardResident)
    gate_chunks_kernel(const __grid_constant__ GateParams p) {
  __shared__ acc gates[kGateThreads * Pack::kCount];
  const Walk walk(p.chunks, p.first_block, Pack::kCount);
  read_strip(p.operands, walk, p.gate, gates);
  if (walk.length == 0) return;
  acc gate[Pack::kCount];
  bool open = false;
#pragma unroll
  for (int k = 0; k < Pack::kCount; ++k) {
    gate[k] = gates[walk.channel + k];
    open |= gate[k] != acc(0);
  }

  const int64_t size = Pack::size(p.type), step = p.chunks.rows * p.chunks.channels * size;
  int64_t offset = walk.element * size;
#pragma unroll 1
  for (int at = walk.row; at < walk.length; at += kAtOnce * p.chunks.rows) {
    Pack packs[kAtOnce] = {};
    if (open) {
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j)
        if (at + j * p.chunks.rows < walk.length)
          packs[j].load(static_cast<const char*>(p.x) + (offset + j * step), p.type);
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j)
#pragma unroll
        for (int k = 0; k < Pack::kCount; ++k) scale(packs[j], p.type, k, gate[k]);
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j)
      if (at + j * p.chunks.rows < walk.length)
        packs[j].store(static_cast<char*>(p.y) + (offset + j * step), p.type);
    offset += kAtOnce * step;
  }
}

template <class Pack, class acc>
__global__ void __launch_bounds__(kGateThreads, kBackwardResident)
    gate_backward_chunks_kernel(const __grid_constant__ GateBackwardParams p) {
  __shared__ acc sums[Pack::kCount][kGateThreads], gates[kGateThreads * Pack::kCount];
  const Walk walk(p.chunks, p.first_block, Pack::kCount);
  const int rows = p.chunks.rows, thread = int(threadIdx.x);
  acc gate[Pack::kCount] = {}, sum[Pack::kCount] = {};
  if (p.grad_x) {
    read_strip<acc>(p.operands, walk, nullptr, gates);
#pragma unroll
    for (int k = 0; k < Pack::kCount; ++k)
      if (walk.length > 0) gate[k] = gates[walk.channel + k];
  }

  const int64_t size = Pack::size(p.type), step = rows * p.chunks.channels * size;
  int64_t offset = walk.element * size;
#pragma unroll 1
  for (int at = walk.row; at < walk.length; at += kBatch<Pack> * rows) {
    Pack grads[kBatch<Pack>] = {}, features[kBatch<Pack>] = {};
#pragma unroll
    for (int j = 0; j < kBatch<Pack>; ++j) {
      if (at + j * rows >= walk.length) continue;
      grads[j].load(static_cast<const char*>(p.grad_y) + (offset + j * step), p.type);
      features[j].load(static_cast<const char*>(p.x) + (offset + j * step), p.type);
    }
#pragma unroll
    for (int j = 0; j < kBatch<Pack>; ++j)
#pragma unroll
      for (int k = 0; k < Pack::kCount; ++k)
        sum[k] +=
            grads[j].template value<acc>(p.type, k) * features[j].template value<acc>(p.type, k);
    if (p.grad_x) {
#pragma unroll
      for (int j = 0; j < kBatch<Pack>; ++j) {
        if (at + j * rows >= walk.length) continue;
#pragma unroll
        for (int k = 0; k < Pack::kCount; ++k) scale(grads[j], p.type, k, gate[k]);
        grads[j].store(static_cast<char*>(p.grad_x) + (offset + j * step), p.type);
      }
    }
    offset += kBatch<Pack> * step;
  }

  // The rows of a column, pairwise: the upper half of them takes in the lower.
  int half = 1;
  while (2 * half < rows) half *= 2;
#pragma unroll
  for (int k = 0; k < Pack::kCount; ++k) sums[k][thread] = sum[k];
#pragma unroll 1
  for (; half > 0; half /= 2) {
    __syncthreads();
    if (walk.row >= half || walk.row + half >= rows) continue;
#pragma unroll
    for (int k = 0; k < Pack::kCount; ++k)
      sums[k][thread] = sum[k] += sums[k][thread + half * p.chunks.columns];
  }
  if (walk.row > 0 || walk.length == 0) return;
#pragma unroll
  for (int k = 0; k < Pack::kCount; ++k)
    deliver(p, walk.strip + walk.channel + k, walk.chunk, sum[k]);
}

// --- parts to sums --------------------------------------------------------------------------------

// A warp for a channel, in float64: the parts are few, but nothing bounds their number.
template <class acc>
__global__ void __launch_bounds__(kGateThreads)
    gate_finish_kernel(const __grid_constant__ GateBackwardParams p) {
  const int lane = int(threadIdx.x) % 32;
  const int64_t channel =
      (p.first_block + blockIdx.x) * (kGateThreads / 32) + int(threadIdx.x) / 32;
  if (channel >= p.planes) return;  // the whole warp
  const acc* const partial = static_cast<const acc*>(p.partial) + channel * p.parts;
  double sum = 0;
  for (int64_t i = lane; i < p.parts; i += 32) sum += double(partial[i]);
  for (unsigned bit = 16; bit > 0; bit /= 2) sum += __shfl_xor_sync(~0u, sum, bit);
  if (lane == 0) store_grad_logits(p, channel, acc(sum));
}

// --- launches -------------------------------------------------------------------------------------

template <class Pack, class acc>
cudaError_t launch_gate_kernel(const GateParams& params, unsigned blocks, cudaStream_t stream) {
  return params.channels_last
             ? launch(gate_chunks_kernel<Pack, acc>, blocks, params.chunks.threads(), stream,
                      params)
             : launch(gate_planes_kernel<Pack, acc>, blocks, kGateThreads, stream, params);
}

template <class Pack, class acc>
cudaError_t launch_gate_backward_kernel(const GateBackwardParams& params, unsigned blocks,
                                        cudaStream_t stream) {
  return params.channels_last
             ? launch(gate_backward_chunks_kernel<Pack, acc>, blocks, params.chunks.threads(),
                      stream, params)
             : launch(gate_backward_planes_kernel<Pack, acc>, blocks, kGateThreads, stream, params);
}

}  // namespace freqops::cuda
