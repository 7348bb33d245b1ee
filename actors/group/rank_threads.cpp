#include "rank_threads.hpp"

#include <weft/collective/device_sums.hpp>

#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

namespace weft::actors {

namespace {

constexpr auto shard_patience = std::chrono::seconds{10};

// The shard of a group that is just ending may still lie on the device.
result<engine::runner> load_shard(const rank_place& place, const engine::runner_options& options) {
  const auto latest = std::chrono::steady_clock::now() + shard_patience;
  for (;;) {
    auto model = engine::runner::load(place.model_folder, options);
    const bool full = !model && model.error().code == errc::out_of_space && options.device != nullptr;
    if (!full || std::chrono::steady_clock::now() >= latest) return model;
    std::this_thread::sleep_for(std::chrono::milliseconds{250});
  }
}

// Over NCCL where all ranks can; said where this one was to and does not.
result<std::unique_ptr<collective::communicator>> with_devices(
    std::unique_ptr<collective::communicator> group, const rank_place& place) {
  collective::device_sums_options options;
  if (place.cuda_device) options.device = static_cast<int>(*place.cuda_device);
  options.timeout = place.step_timeout;
  auto grown = collective::with_device_sums(std::move(group), options);
  if (!grown) return tl::make_unexpected(grown.error());
  if (!grown->summing && place.cuda_device)
    spdlog::info("the ranks' sums go over the host: {}", grown->summing.error().context);
  return std::move(grown->group);
}

// With its shard, which takes one rank longer than another: only then steps have their time.
result<model_rank> joined(fabric::ucx_group_seat seat, const rank_place& place) {
  model_rank rank{
      .group = std::make_unique<coming_group>(place.rank, static_cast<unsigned>(place.addresses.size())),
      .model = nullptr};
  auto options = place.model;
  options.group = rank.group.get();
  auto model = load_shard(place, options);
  if (!model) return tl::make_unexpected(model.error());
  rank.model = std::make_unique<engine::runner>(std::move(*model));
  auto group = std::move(seat).join(place.rank, place.addresses);
  if (!group) return tl::make_unexpected(group.error());
  auto whole = with_devices(std::move(*group), place);
  if (!whole) return tl::make_unexpected(whole.error());
  rank.group->join(std::move(*whole));
  return rank;
}

rank_news made(std::uint64_t thread) {
  rank_news news;
  news.thread = thread;
  return news;
}

rank_news ended(std::uint64_t thread, const error& why) {
  rank_news news;
  news.thread = thread;
  news.ended = true;
  news.why = why;
  return news;
}

void run(fabric::ucx_group_seat seat, const rank_place& place, std::uint64_t number,
         const std::atomic<bool>& stopped, const std::function<void(rank_news)>& tell) {
  auto rank = joined(std::move(seat), place);
  if (!rank) return tell(ended(number, rank.error()));
  auto news = made(number);
  if (place.rank == 0) {
    news.lead = std::make_shared<rank_lead>(std::move(*rank));
    tell(std::move(news));
    return tell(ended(number, {}));
  }
  tell(std::move(news));
  const auto followed = follow(*rank, place.stop_tokens, stopped);
  tell(ended(number, followed ? error{} : followed.error()));
}

}  // namespace

rank_threads::~rank_threads() {
  stop();
  for (auto& [number, one] : threads_)
    one.thread.join();
}

std::uint64_t rank_threads::join(fabric::ucx_group_seat seat, rank_place place) {
  const auto number = next_++;
  auto stopped = std::make_shared<std::atomic<bool>>(false);
  std::thread thread([seat = std::move(seat), place = std::move(place), number, stopped,
                      tell = tell_]() mutable { run(std::move(seat), place, number, *stopped, tell); });
  threads_.emplace(number, running{std::move(stopped), std::move(thread)});
  return number;
}

void rank_threads::stop() {
  for (auto& [number, one] : threads_)
    *one.stopped = true;
}

void rank_threads::forget(std::uint64_t thread) {
  auto found = threads_.extract(thread);
  if (found) found.mapped().thread.join();
}

}  // namespace weft::actors
