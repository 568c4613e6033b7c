// The only door to PyTorch. What lies behind it is ABI stable: a binary built here runs on every
// torch from 2.10 on and on every Python. BUILD of the CUDA library defines USE_CUDA, which opens
// the CUDA part of torch's C interface (current stream, error text).
#pragma once

#define TORCH_TARGET_VERSION 0x020A000000000000  // torch 2.10: the floor

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>
