#include <weft/device/host_device.hpp>
#include <weft/device/recording.hpp>

#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>

namespace weft::device {

namespace {

constexpr std::align_val_t memory_alignment{256};

// No processor reads memory at such an address.
constexpr std::uintptr_t apart = std::uintptr_t{1} << 62U;

// Read before it was written, as any float type: not a number.
constexpr int poison = 0xFF;

std::byte* moved(const std::byte* data, std::uintptr_t by) {
  return reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(data) + by);
}

bool is_of_device(const void* address) {
  return (reinterpret_cast<std::uintptr_t>(address) & apart) != 0;
}

using host_work = std::function<void(const host_device&)>;

struct host_recording final : recording {
  explicit host_recording(std::deque<host_work> w) : work(std::move(w)) {}
  std::deque<host_work> work;
};

}  // namespace

class host_stream final : public recording_stream {
 public:
  // This thread's, if one records: what a device refuses meanwhile is refused here.
  static thread_local host_stream* recording_here;

  explicit host_stream(std::shared_ptr<const host_device> owner) : owner_(std::move(owner)) {}
  host_stream(const host_stream&) = delete;
  host_stream& operator=(const host_stream&) = delete;
  ~host_stream() override {
    if (recording_here == this) recording_here = nullptr;
  }

  void upload(std::byte* to, const void* from, std::size_t bytes) override {
    if (refused("a copy to the device")) return;
    give([=](const host_device& owner) {
      owner.begin(&stream_counts::uploads, &stream_counts::upload_bytes, bytes);
      copy_bytes(owner.at(to, bytes), of_host(from), bytes);
    });
  }
  void download(void* to, const std::byte* from, std::size_t bytes) override {
    if (refused("a copy from the device")) return;
    give([=](const host_device& owner) {
      owner.begin(&stream_counts::downloads, &stream_counts::download_bytes, bytes);
      of_host(to);
      copy_bytes(to, owner.at(from, bytes), bytes);
    });
  }
  void copy(std::byte* to, const std::byte* from, std::size_t bytes) override {
    if (refused("a copy on the device")) return;
    give([=](const host_device& owner) {
      owner.begin(&stream_counts::copies, nullptr, bytes);
      copy_bytes(owner.at(to, bytes), owner.at(from, bytes), bytes);
    });
  }
  void after(stream& other) override {
    if (refused("another stream")) return;
    auto& before = dynamic_cast<host_stream&>(other);
    give([&before, number = before.given_](const host_device&) {
      before.run_to(number);
      if (!before.failed_)
        throw std::runtime_error("another stream failed: " + before.failed_.error().context);
    });
  }
  result<void> wait() override {
    if (refused("waiting")) return refusal_;
    owner_->note_wait();
    run_to(given_);
    return std::exchange(failed_, {});
  }
  void run(host_work work) {
    host_work counted = [work = std::move(work)](const host_device& owner) mutable {
      owner.begin(&stream_counts::kernels, nullptr, 0);
      work(owner);
    };
    if (recording_here == this)
      recorded_.push_back(std::move(counted));
    else
      give(std::move(counted));
  }

  void begin_recording() override {
    recorded_.clear();
    refusal_ = {};
    recording_here = this;
  }
  result<std::unique_ptr<recording>> end_recording() override {
    recording_here = nullptr;
    if (!refusal_) return tl::unexpected(refusal_.error());
    return std::make_unique<host_recording>(std::exchange(recorded_, {}));
  }
  void launch(const recording& recorded) override {
    if (refused("a recording")) return;
    const auto& whole = dynamic_cast<const host_recording&>(recorded);
    give([&whole](const host_device& owner) {
      for (host_work work : whole.work)  // NOLINT(performance-for-range-copy): kernels change their arguments
        work(owner);
    });
  }

  // Whether this records, and so cannot take it.
  bool refused(const std::string& what) {
    if (recording_here != this) return false;
    if (refusal_)
      refusal_ = fail(errc::internal, "a recording of " + owner_->name() + " cannot hold " + what);
    return true;
  }

 private:
  void give(host_work work) {
    work_.push_back(std::move(work));
    ++given_;
  }
  // What was given up to this number; nothing more once something failed.
  void run_to(std::uint64_t number) {
    while (done_ < number) {
      const auto work = std::move(work_.front());
      work_.pop_front();
      ++done_;
      if (!failed_) continue;
      try {
        work(*owner_);
      } catch (const std::exception& e) {
        failed_ = fail(errc::internal, std::string("on ") + owner_->name() + ": " + e.what());
      }
    }
  }
  static const void* of_host(const void* address) {
    if (is_of_device(address)) throw std::out_of_range("the device's address where the host's was wanted");
    return address;
  }
  static void copy_bytes(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }

  std::shared_ptr<const host_device> owner_;
  std::deque<host_work> work_, recorded_;
  std::uint64_t given_ = 0;
  std::uint64_t done_ = 0;
  result<void> failed_;
  result<void> refusal_;
};

thread_local host_stream* host_stream::recording_here = nullptr;

namespace {

bool refused_by_recording(const std::string& what) {
  host_stream* const recording = host_stream::recording_here;
  return recording != nullptr && recording->refused(what);
}

}  // namespace

struct host_device::state {
  mutable std::mutex mutex;
  std::size_t total_bytes = 0;
  std::size_t used_bytes = 0;
  std::map<const std::byte*, std::size_t> pieces;  // bytes by where they begin, on the host
  stream_counts counts;
  std::optional<std::uint64_t> fails_at;  // by `counts.works()`
  failing how = failing::once;
};

std::shared_ptr<host_device> host_device::make(std::size_t total_bytes) {
  return std::shared_ptr<host_device>(new host_device(total_bytes));
}

host_device::host_device(std::size_t total_bytes) : state_(std::make_unique<state>()) {
  state_->total_bytes = total_bytes;
}

host_device::~host_device() = default;

std::string host_device::name() const {
  return "the host's device";
}

memory_size host_device::sizes() const {
  const std::scoped_lock lock(state_->mutex);
  return {state_->total_bytes - state_->used_bytes, state_->total_bytes};
}

stream_counts host_device::counts() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->counts;
}

void host_device::fail_at(std::uint64_t n, failing how) {
  const std::scoped_lock lock(state_->mutex);
  state_->fails_at = state_->counts.works() + n;
  state_->how = how;
}

void host_device::fail_no_more() {
  const std::scoped_lock lock(state_->mutex);
  state_->fails_at.reset();
}

void host_device::begin(std::uint64_t stream_counts::*kind, std::uint64_t stream_counts::*bytes,
                        std::size_t count) const {
  const std::scoped_lock lock(state_->mutex);
  const std::uint64_t number = state_->counts.works();
  ++(state_->counts.*kind);
  if (bytes != nullptr) state_->counts.*bytes += count;
  if (!state_->fails_at || number < *state_->fails_at) return;
  if (state_->how == failing::once) state_->fails_at.reset();
  throw std::runtime_error("copy or kernel " + std::to_string(number) + " fails, as a test wants it");
}

void host_device::note_wait() const {
  const std::scoped_lock lock(state_->mutex);
  ++state_->counts.waits;
}

result<std::unique_ptr<stream>> host_device::make_stream() {
  return std::make_unique<host_stream>(std::static_pointer_cast<const host_device>(shared_from_this()));
}

std::byte* host_device::take(place where, std::size_t bytes) {
  if (refused_by_recording("memory that is taken")) return nullptr;
  const std::scoped_lock lock(state_->mutex);
  if (where == place::device && bytes > state_->total_bytes - state_->used_bytes) return nullptr;
  auto* const data = static_cast<std::byte*>(::operator new(bytes, memory_alignment, std::nothrow));
  if (data == nullptr) return nullptr;
  std::memset(data, poison, bytes);
  if (where == place::pinned) return data;
  state_->used_bytes += bytes;
  state_->pieces.emplace(data, bytes);
  return moved(data, apart);
}

void host_device::release(place where, std::byte* data) noexcept {
  refused_by_recording("memory that is given back");
  if (where == place::device) {
    data = moved(data, std::uintptr_t{0} - apart);
    const std::scoped_lock lock(state_->mutex);
    const auto piece = state_->pieces.find(data);
    state_->used_bytes -= piece->second;
    state_->pieces.erase(piece);
  }
  ::operator delete(data, memory_alignment);
}

const std::byte* host_device::find(const std::byte* address, std::size_t bytes, std::size_t alignment) const {
  if (bytes == 0) return nullptr;
  if (!is_of_device(address)) throw std::out_of_range("the host's address where the device's was wanted");
  if (reinterpret_cast<std::uintptr_t>(address) % alignment != 0)
    throw std::invalid_argument("an address of the device that is no multiple of " +
                                std::to_string(alignment));
  const std::byte* const data = moved(address, std::uintptr_t{0} - apart);
  const std::scoped_lock lock(state_->mutex);
  auto piece = state_->pieces.upper_bound(data);
  if (piece == state_->pieces.begin()) throw std::out_of_range("no memory of the device");
  --piece;
  if (data - piece->first > static_cast<std::ptrdiff_t>(piece->second) ||
      bytes > piece->second - static_cast<std::size_t>(data - piece->first))
    throw std::out_of_range("more bytes than a piece of the device's memory has");
  return data;
}

void run_on_host(stream& s, std::function<void(const host_device&)> work) {
  dynamic_cast<host_stream&>(s).run(std::move(work));
}

bool records_on_host(const stream& s) {
  return host_stream::recording_here == &s;
}

}  // namespace weft::device
