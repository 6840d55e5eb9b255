// Tells a CPU build of torch that there is one CUDA device, which does nothing: what autograd and `.to("cuda")` ask for.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {
struct OneCudaDevice final : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  c10::Device exchangeDevice(c10::Device) const override { return {c10::DeviceType::CUDA, 0}; }
  c10::Device getDevice() const override { return {c10::DeviceType::CUDA, 0}; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Stream getStream(c10::Device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, c10::Device(c10::DeviceType::CUDA, 0));
  }
  c10::Stream getDefaultStream(c10::Device) const override { return getStream({c10::DeviceType::CUDA, 0}); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return getStream({c10::DeviceType::CUDA, 0}); }
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};
C10_REGISTER_GUARD_IMPL(CUDA, OneCudaDevice);

struct OneCudaDeviceHooks : at::CUDAHooksInterface {
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex current_device() const override { return 0; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
};

// libtorch_cpu makes its hooks, which say that there is no CUDA, before anything can be registered: they are replaced.
const at::CUDAHooksInterface* replaced =
    new (const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks())) OneCudaDeviceHooks();
}  // namespace
