// Kernels that a stream keeps, to run them again as a whole: on CUDA a graph.
#pragma once

#include <weft/device/device.hpp>

#include <memory>

namespace weft::device {

// What a stream was given while it recorded: kernels with their arguments. The memory that they use has an
// owner elsewhere, and must be there when they are launched.
class recording {
 public:
  virtual ~recording() = default;
};

// A stream that records: asked of one by `dynamic_cast`.
class recording_stream : public stream {
 public:
  // From here on kernels are kept, not run. What a recording cannot hold is refused by `end_recording`:
  // copies from and to the host, and waiting; device memory that this thread takes or gives back meanwhile.
  virtual void begin_recording() = 0;
  // Whatever failed since the beginning: there is no recording then.
  virtual result<std::unique_ptr<recording>> end_recording() = 0;
  // Runs all of it, with what the memory holds by then. A recording of this stream; it lives until `wait`.
  virtual void launch(const recording& recorded) = 0;
};

}  // namespace weft::device
