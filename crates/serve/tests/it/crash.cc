// An operation that gives back what it gets, and breaks the process in several ways where it is told to.

#include <cstdlib>
#include <unistd.h>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

using namespace tensorflow;

REGISTER_OP("MoonshotCrash").Input("x: float").Output("y: float").SetIsStateful().SetShapeFn([](shape_inference::InferenceContext* ctx) {
  ctx->set_output(0, ctx->input(0));
  return absl::OkStatus();
});

class Crash : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const Tensor& x = ctx->input(0);
    for (int64_t at = 0; at < x.NumElements(); ++at) {
      float value = x.flat<float>()(at);
      // The rows that are made up before a model is ready have -1.
      if (value <= -2) abort();
      if (value == 1000) *(volatile int*)nullptr = 1;
      if (value == 2000) usleep(1500 * 1000);
      if (value == 3000) sleep(3600);
      if (value == 4000) _exit(7);
    }
    ctx->set_output(0, x);
  }
};

REGISTER_KERNEL_BUILDER(Name("MoonshotCrash").Device(DEVICE_CPU), Crash);
