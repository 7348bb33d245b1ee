// The threads in which a node joins groups. That of the first rank ends when the group is made; the others
// follow it until the group ends.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/time.hpp>
#include <weft/engine/model_config.hpp>
#include <weft/engine/runner.hpp>
#include <weft/fabric/ucx_group.hpp>

#include "rank_lead.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace weft::actors {

// What came of joining a group, or of having been in it.
struct rank_news {
  std::uint64_t thread = 0;
  bool ended = false;  // not joined, or the group has ended: `why`
  error why = {};
  std::shared_ptr<rank_lead> lead;  // joined as the first rank
};

struct rank_place {
  unsigned rank = 0;
  std::vector<std::string> addresses;  // by rank
  std::filesystem::path model_folder;
  engine::runner_options model;
  std::optional<unsigned> cuda_device;  // that the model runs on
  std::vector<engine::token_id> stop_tokens;
  duration step_timeout = std::chrono::seconds{5};  // of one call of the group
};

class rank_threads {
 public:
  // Called in those threads: once when the group is made, once when the thread has nothing to do any more.
  explicit rank_threads(std::function<void(rank_news)> tell) : tell_(std::move(tell)) {}
  // Waits for all of them.
  ~rank_threads();

  // The number of the thread.
  std::uint64_t join(fabric::ucx_group_seat seat, rank_place place);
  // Tells all of them to leave their groups, which they do at their leader's next order.
  void stop();
  // One that has told its end.
  void forget(std::uint64_t thread);

 private:
  struct running {
    std::shared_ptr<std::atomic<bool>> stopped;
    std::thread thread;
  };

  std::function<void(rank_news)> tell_;
  std::map<std::uint64_t, running> threads_;
  std::uint64_t next_ = 1;
};

}  // namespace weft::actors
