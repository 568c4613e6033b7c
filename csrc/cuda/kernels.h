// The launches that the operators are made of. float kernels serve pictures and results of at most
// 32 bits; float64 kernels take any type and live in files of their own, where spills are allowed.
#pragma once

#include "params.h"

#if defined(FREQOPS_EMULATED)
#include "cuda_on_host.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace freqops::cuda {

cudaError_t launch_analysis(const AnalysisParams<float>& params, cudaStream_t stream);
cudaError_t launch_analysis(const AnalysisParams<double>& params, cudaStream_t stream);

// The analysis with a gate: result = 0 where gate is 0, whatever the pixels, else result * gate. For
// uint8 and float32 pictures and results of at most 32 bits, without rounding. A launch takes whole
// pictures: where a batch is cut, params.gate.data moves on by C elements a picture, like pictures
// and result.
cudaError_t launch_gated_analysis(const AnalysisParams<float>& params, cudaStream_t stream);

cudaError_t launch_synthesis(const SynthesisParams<float>& params, cudaStream_t stream);
cudaError_t launch_synthesis(const SynthesisParams<double>& params, cudaStream_t stream);

cudaError_t launch_smoothed_adjoint(const SmoothedAdjointParams<float>& params,
                                    cudaStream_t stream);
cudaError_t launch_smoothed_adjoint(const SmoothedAdjointParams<double>& params,
                                    cudaStream_t stream);

}  // namespace freqops::cuda
