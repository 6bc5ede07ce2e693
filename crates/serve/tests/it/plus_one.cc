// An operation that TensorFlow does not have.

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

using namespace tensorflow;

REGISTER_OP("MoonshotPlusOne").Input("x: float").Output("y: float").SetShapeFn([](shape_inference::InferenceContext* ctx) {
  ctx->set_output(0, ctx->input(0));
  return absl::OkStatus();
});

class PlusOne : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const Tensor& x = ctx->input(0);
    Tensor* y = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, x.shape(), &y));
    for (int64_t at = 0; at < x.NumElements(); ++at) {
      y->flat<float>()(at) = x.flat<float>()(at) + 1;
    }
  }
};

REGISTER_KERNEL_BUILDER(Name("MoonshotPlusOne").Device(DEVICE_CPU), PlusOne);
