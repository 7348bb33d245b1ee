// Ranks a session's blocks where it decodes: few of them on a thread of the model's that has nothing else to
// do, while the step goes on.
#pragma once

#include <weft/engine/sparse_context.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace weft::engine {

class sparse_context::own_scorer final : public block_scorer {
 public:
  own_scorer(std::unique_ptr<policies::retrieval::block_ranker> ranker, runner& model, std::size_t blocks);
  ~own_scorer() override;
  own_scorer(const own_scorer&) = delete;
  own_scorer& operator=(const own_scorer&) = delete;

  // Before any `submit`.
  policies::retrieval::block_ranker& ranker() { return *ranker_; }
  std::size_t allocated_bytes() const { return ranker_->allocated_bytes(); }

  // Several layers at once are for later. One alone waits for whoever asks next, `when_ranked` or `collect`.
  void submit(std::span<const layer_group> asked) override;
  bool collect(std::uint32_t layer, std::span<float> scores) override;
  bool when_ranked(std::uint32_t layer, std::function<void()> ready) override;
  bool take_back() override;

 private:
  struct submitted_task {
    own_scorer* scorer;
    void operator()() const { scorer->rank_beside(); }
  };

  void keep(std::span<const layer_group> asked);
  bool are_few();
  void rank_all(kernels::thread_pool& pool);
  void rank_beside();
  void finish();

  std::unique_ptr<policies::retrieval::block_ranker> ranker_;
  runner& model_;
  kernels::thread_pool alone_{1};  // of whoever ranks beside the model's regions
  std::size_t blocks_;
  std::size_t width_;                       // of a step's queries
  std::optional<std::size_t> layer_bytes_;  // of representations
  std::vector<float> queries_;              // of what was submitted
  std::vector<layer_group> asked_;          // submitted and not ranked
  std::function<void()> ready_;
  submitted_task task_{this};
  bool away_ = false;     // the task was given away
  bool calling_ = false;  // whoever waited, from the task
  policies::retrieval::shard_scores shard_;
  std::vector<float> scores_;  // [layer][block]
};

}  // namespace weft::engine
