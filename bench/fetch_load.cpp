#include "fetch_load.hpp"

#include <weft/actors/block_watcher.hpp>

#include "block_owner.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>

namespace weft::bench {

namespace {

using clock = std::chrono::steady_clock;

constexpr auto fetch_timeout = std::chrono::seconds{30};

class running_load {
 public:
  running_load(fabric::transport& node, const fetch_load& load, std::vector<double>* microseconds)
      : node_(node), load_(load), microseconds_(microseconds) {}

  result<double> run() {
    const auto at_once = std::min(load_.under_way, load_.fetches);
    open_ = at_once;
    next_ = at_once;
    // An empty fetch wakes the transport's thread, which begins the load.
    node_.fetch(load_.from, {}, fetch_timeout, [this, at_once](const fabric::fetch_report&) {
      began_ = clock::now();
      for (std::size_t i = 0; i < at_once; ++i)
        begin(i);
    });
    std::unique_lock lock{mutex_};
    all_ended_.wait(lock, [&] { return open_ == 0; });
    if (failure_) return tl::unexpected{*failure_};
    return std::chrono::duration<double>(ended_ - began_).count();
  }

 private:
  std::size_t first_block(std::size_t fetch) const {
    return load_.at / load_.block_bytes + fetch * load_.blocks_per_fetch;
  }

  void begin(std::size_t fetch) {
    std::vector<fabric::fetch_range> ranges(load_.blocks_per_fetch);
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      const auto offset = (first_block(fetch) + i) * load_.block_bytes;
      ranges[i] = {offset, load_.block_bytes, offset};
    }
    const auto began = clock::now();
    const auto begin_one = load_.in_place ? &fabric::transport::view : &fabric::transport::fetch;
    (node_.*begin_one)(
        load_.from, std::move(ranges), fetch_timeout,
        [this, began](const fabric::fetch_report& report) { end(began, report); },
        load_.verified ? watcher_of(fetch) : nullptr);
  }

  std::shared_ptr<fabric::fetch_watcher> watcher_of(std::size_t fetch) {
    auto watcher = watchers_.take();
    for (std::size_t i = 0; i < load_.blocks_per_fetch; ++i)
      watcher->expect(expectation_of(load_.block_bytes, first_block(fetch) + i));
    return watcher;
  }

  void end(clock::time_point began, const fabric::fetch_report& report) {
    const auto& outcome = report.outcome;
    const auto took = std::chrono::duration<double, std::micro>(clock::now() - began).count();
    std::optional<std::size_t> follower;
    {
      const std::lock_guard lock{mutex_};
      if (microseconds_ != nullptr) microseconds_->push_back(took);
      if (!outcome && !failure_) failure_ = outcome.error();
      if (next_ < load_.fetches && !failure_) follower = next_++;
      if (!follower && --open_ == 0) {
        ended_ = clock::now();
        all_ended_.notify_one();
      }
    }
    if (follower) begin(*follower);
  }

  fabric::transport& node_;
  const fetch_load& load_;
  std::vector<double>* microseconds_;
  actors::watcher_stock watchers_;
  clock::time_point began_;
  clock::time_point ended_;
  std::mutex mutex_;
  std::condition_variable all_ended_;
  std::size_t open_ = 0;
  std::size_t next_ = 0;
  std::optional<error> failure_;
};

}  // namespace

result<double> run_load(fabric::transport& node, const fetch_load& load, std::vector<double>* microseconds) {
  return running_load{node, load, microseconds}.run();
}

}  // namespace weft::bench
