#include "file_device.hpp"
#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace weft::tier {
namespace {

enum class kind : std::uint8_t { read, write, sync };

struct operation {
  kind what{};
  int fd = -1;
  std::uint64_t offset = 0;
  std::byte* at = nullptr;
  std::size_t left = 0;
  device::done finished;
};

// Both files at once; ends with the later one. Of the ring's thread alone.
struct joined_sync {
  int open = 2;
  errc outcome = errc::ok;
  device::done finished;

  void end_one(errc one) {
    if (one != errc::ok) outcome = one;
    if (--open == 0) finished(outcome);
  }
};

// One thread owns the ring. Others leave operations in a queue and wake it through an eventfd that the ring
// reads.
class uring_device final : public device {
 public:
  uring_device(tier_files files, const io_uring& ring, unsigned depth, owned_fd wake)
      : files_(std::move(files)), ring_(ring), depth_(depth), wake_(std::move(wake)), thread_([this] {
          run();
        }) {}

  ~uring_device() override {
    {
      const std::lock_guard lock{mutex_};
      ending_ = true;
    }
    rouse();
    thread_.join();
    io_uring_queue_exit(&ring_);
  }

  void read(area where, std::uint64_t offset, std::span<std::byte> into, done finished) override {
    add({kind::read, files_.of(where), offset, into.data(), into.size(), std::move(finished)});
  }

  void write(area where, std::uint64_t offset, std::span<const std::byte> from, done finished) override {
    add({kind::write, files_.of(where), offset, const_cast<std::byte*>(from.data()), from.size(),
         std::move(finished)});
  }

  void sync(done finished) override {
    auto both = std::make_shared<joined_sync>();
    both->finished = std::move(finished);
    for (const area where : {area::data, area::headers})
      add({kind::sync, files_.of(where), 0, nullptr, 0, [both](errc outcome) { both->end_one(outcome); }});
  }

  std::uint64_t header_area_bytes() const override { return files_.header_bytes; }
  std::string description() const override {
    return files_.direct ? "io_uring, direct" : "io_uring, buffered";
  }

 private:
  void add(operation op) {
    bool first = false;
    {
      const std::lock_guard lock{mutex_};
      first = added_.empty();
      added_.push_back(std::move(op));
    }
    if (first) rouse();
  }

  void rouse() {
    const std::uint64_t one = 1;
    while (::write(wake_.get(), &one, sizeof one) < 0 && errno == EINTR) {
    }
  }

  void run() {
    listen();
    while (!over()) {
      start_what_fits();
      io_uring_submit_and_wait(&ring_, 1);
      io_uring_cqe* cqe = nullptr;
      while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
        auto* op = static_cast<operation*>(io_uring_cqe_get_data(cqe));
        const int outcome = cqe->res;
        io_uring_cqe_seen(&ring_, cqe);
        if (op == nullptr) {
          take_added();
        } else {
          --in_ring_;
          ended(std::unique_ptr<operation>(op), outcome);
        }
      }
    }
  }

  bool over() const { return told_to_end_ && waiting_.empty() && in_ring_ == 0; }

  void take_added() {
    {
      const std::lock_guard lock{mutex_};
      for (operation& op : added_)
        waiting_.push_back(std::make_unique<operation>(std::move(op)));
      added_.clear();
      told_to_end_ = ending_;
    }
    listen();
  }

  // One place of the ring is always the eventfd's.
  void listen() {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) {
      io_uring_submit(&ring_);
      sqe = io_uring_get_sqe(&ring_);
    }
    io_uring_prep_read(sqe, wake_.get(), &woken_, sizeof woken_, 0);
    io_uring_sqe_set_data(sqe, nullptr);
  }

  void start_what_fits() {
    while (!waiting_.empty() && in_ring_ < depth_) {
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) return;
      operation* op = waiting_.front().release();
      waiting_.pop_front();
      prepare(sqe, *op);
      io_uring_sqe_set_data(sqe, op);
      ++in_ring_;
    }
  }

  static void prepare(io_uring_sqe* sqe, const operation& op) {
    switch (op.what) {
      case kind::read:
        return io_uring_prep_read(sqe, op.fd, op.at, static_cast<unsigned>(op.left), op.offset);
      case kind::write:
        return io_uring_prep_write(sqe, op.fd, op.at, static_cast<unsigned>(op.left), op.offset);
      case kind::sync:
        return io_uring_prep_fsync(sqe, op.fd, IORING_FSYNC_DATASYNC);
    }
  }

  void ended(std::unique_ptr<operation> op, int outcome) {
    if (outcome == -EINTR || outcome == -EAGAIN) return waiting_.push_back(std::move(op));
    if (outcome < 0) return op->finished(code_of_errno(-outcome));
    if (op->what == kind::sync) return op->finished(errc::ok);
    const auto moved = std::min(static_cast<std::size_t>(outcome), op->left);
    if (moved == op->left) return op->finished(errc::ok);
    if (moved == 0) return op->finished(errc::io);  // there is nothing
    op->left -= moved;
    op->at += moved;
    op->offset += moved;
    waiting_.push_front(std::move(op));
  }

  tier_files files_;
  io_uring ring_;
  const std::size_t depth_;
  owned_fd wake_;
  std::uint64_t woken_ = 0;

  std::mutex mutex_;
  std::deque<operation> added_;
  bool ending_ = false;

  // Of the thread alone.
  std::deque<std::unique_ptr<operation>> waiting_;
  std::size_t in_ring_ = 0;
  bool told_to_end_ = false;

  std::thread thread_;
};

}  // namespace

std::unique_ptr<device> make_uring_device(tier_files& files, unsigned depth) {
  io_uring ring{};
  if (io_uring_queue_init(depth + 1, &ring, 0) != 0) return nullptr;
  owned_fd wake(eventfd(0, EFD_CLOEXEC));
  if (!wake) {
    io_uring_queue_exit(&ring);
    return nullptr;
  }
  return std::make_unique<uring_device>(std::move(files), ring, depth, std::move(wake));
}

}  // namespace weft::tier
