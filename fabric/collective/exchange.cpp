#include <weft/collective/call_checks.hpp>
#include <weft/collective/device_communicator.hpp>
#include <weft/collective/exchange.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <utility>

namespace weft::collective {

namespace {

// How much is summed before the next rank's values are looked at: stays in the nearest cache.
constexpr std::size_t summed_together = 1024;

class stepwise_communicator final : public device_communicator {
 public:
  stepwise_communicator(std::unique_ptr<exchange> steps, duration timeout)
      : steps_(std::move(steps)), rank_(steps_->rank()), size_(steps_->size()), timeout_(timeout) {}

  unsigned rank() const override { return rank_; }
  unsigned size() const override { return size_; }

  result<void> all_reduce(std::span<float> values) override {
    return operation([&]() -> result<void> {
      const auto [by_parts, together] = summing_of(values, steps_->piece_bytes(), size());
      for (std::size_t at = 0; at < values.size(); at += together) {
        const auto piece = values.subspan(at, std::min(together, values.size() - at));
        if (auto done = by_parts ? reduce_by_parts(piece) : reduce_at_once(piece); !done) return done;
      }
      return {};
    });
  }

  result<void> broadcast(std::span<std::byte> bytes, unsigned root) override {
    if (auto good = check_root(root, size()); !good) return good;
    return operation([&]() -> result<void> {
      for (std::size_t at = 0; at < bytes.size(); at += steps_->piece_bytes()) {
        const auto piece = bytes.subspan(at, std::min(steps_->piece_bytes(), bytes.size() - at));
        clear_step();
        if (rank() == root)
          std::fill_n(outgoing_.begin(), size(), std::span<const std::byte>{piece});
        else
          incoming_bytes_[root] = piece.size();
        if (auto done = step(); !done) return done;
        if (rank() != root) copy_in(piece, root);
      }
      return {};
    });
  }

  result<void> all_gather(std::span<std::byte> all, std::span<const std::size_t> part_bytes) override {
    if (auto good = check_parts(all, part_bytes, size()); !good) return good;
    return operation([&]() -> result<void> {
      const std::size_t most = *std::ranges::max_element(part_bytes);
      for (std::size_t at = 0; at < most; at += steps_->piece_bytes())
        if (auto done = gather_piece(all, part_bytes, at); !done) return done;
      return {};
    });
  }

  result<void> barrier() override {
    return operation([&] {
      clear_step();
      return step();
    });
  }

  void leave(const error& why) override {
    if (!outcome_) return;
    outcome_ = tl::unexpected(why);
    steps_.reset();
  }

 private:
  template <class Body>
  result<void> operation(Body&& body) {
    if (!outcome_) return outcome_;
    if (size() == 1) return {};
    deadline_ = std::chrono::steady_clock::now() + timeout_;
    outcome_ = body();
    return outcome_;
  }

  void clear_step() {
    outgoing_.fill({});
    incoming_bytes_.fill(0);
  }

  result<void> step() {
    return steps_->run(std::span(outgoing_).first(size()), std::span(incoming_bytes_).first(size()),
                       deadline_);
  }

  void copy_in(std::span<std::byte> out, unsigned from) {
    if (!out.empty()) std::memcpy(out.data(), steps_->received(from).data(), out.size());
  }

  // own[i] becomes the sum of own[i] and what the others sent, in the order of the ranks.
  void sum_in_order(std::span<float> own) {
    std::array<float, summed_together> sums;
    for (std::size_t at = 0; at < own.size(); at += summed_together) {
      const std::size_t count = std::min(summed_together, own.size() - at);
      std::copy_n(values_of(0, own).data() + at, count, sums.begin());
      for (unsigned r = 1; r < size(); ++r) {
        const float* const values = values_of(r, own).data() + at;
        for (std::size_t i = 0; i < count; ++i)
          sums[i] += values[i];
      }
      std::copy_n(sums.begin(), count, own.data() + at);
    }
  }

  std::span<const float> values_of(unsigned r, std::span<const float> own) const {
    if (r == rank()) return own;
    return {reinterpret_cast<const float*>(steps_->received(r).data()), own.size()};
  }

  result<void> reduce_at_once(std::span<float> values) {
    std::fill_n(outgoing_.begin(), size(), std::as_bytes(values));
    std::fill_n(incoming_bytes_.begin(), size(), values.size_bytes());
    if (auto done = step(); !done) return done;
    sum_in_order(values);
    return {};
  }

  result<void> reduce_by_parts(std::span<float> values) {
    const auto part = [&](unsigned r) {
      const std::size_t begin = values.size() * r / size();
      return values.subspan(begin, values.size() * (r + 1) / size() - begin);
    };
    const auto own = part(rank());
    for (unsigned r = 0; r < size(); ++r) {
      outgoing_[r] = std::as_bytes(part(r));
      incoming_bytes_[r] = own.size_bytes();
    }
    if (auto done = step(); !done) return done;
    sum_in_order(own);
    for (unsigned r = 0; r < size(); ++r) {
      outgoing_[r] = std::as_bytes(own);
      incoming_bytes_[r] = part(r).size_bytes();
    }
    if (auto done = step(); !done) return done;
    for (unsigned r = 0; r < size(); ++r)
      if (r != rank()) copy_in(std::as_writable_bytes(part(r)), r);
    return {};
  }

  result<void> gather_piece(std::span<std::byte> all, std::span<const std::size_t> part_bytes,
                            std::size_t at) {
    const auto piece_of = [&](unsigned r) {
      return at < part_bytes[r] ? std::min(steps_->piece_bytes(), part_bytes[r] - at) : 0;
    };
    std::size_t begin = 0;
    for (unsigned r = 0; r < size(); begin += part_bytes[r++]) {
      incoming_bytes_[r] = piece_of(r);
      if (r == rank())
        std::fill_n(outgoing_.begin(), size(),
                    std::span<const std::byte>{all}.subspan(piece_of(r) == 0 ? 0 : begin + at, piece_of(r)));
    }
    if (auto done = step(); !done) return done;
    begin = 0;
    for (unsigned r = 0; r < size(); begin += part_bytes[r++])
      if (r != rank() && piece_of(r) != 0) copy_in(all.subspan(begin + at, piece_of(r)), r);
    return {};
  }

  std::unique_ptr<exchange> steps_;  // null: this rank has left
  const unsigned rank_;
  const unsigned size_;
  duration timeout_;
  time_point deadline_;
  result<void> outcome_;  // of all calls so far
  std::array<std::span<const std::byte>, ranks_max> outgoing_;
  std::array<std::size_t, ranks_max> incoming_bytes_{};
};

}  // namespace

std::unique_ptr<communicator> make_communicator(std::unique_ptr<exchange> steps, duration timeout) {
  return std::make_unique<stepwise_communicator>(std::move(steps), timeout);
}

}  // namespace weft::collective
