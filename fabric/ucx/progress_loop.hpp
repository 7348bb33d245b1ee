// Everything of UCX that one node has, and the thread that moves it. A thread that waits for something can
// take its place meanwhile, so that one thread fewer has to wake before it goes on.
#pragma once

#include "handler_table.hpp"
#include "node_statistics.hpp"
#include "ucx/connections.hpp"
#include "ucx/fetches.hpp"
#include "ucx/messages.hpp"
#include "ucx/pushes.hpp"
#include "ucx/sleeping_place.hpp"
#include "ucx/submission_queue.hpp"
#include "ucx/yielding_spin.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <variant>
#include <vector>

namespace weft::fabric {

struct connect_command {
  std::string address;
  time_point deadline;
  connect_callback done;
};
struct disconnect_command {
  peer_id peer{};
};
struct fetch_command {
  std::unique_ptr<fetch_operation> operation;
};
struct cancel_command {
  operation_id operation{};
};
struct send_command {
  peer_id to{};
  std::uint16_t channel = 0;
  std::vector<std::byte> payload;
  send_callback done;
};
using command =
    std::variant<connect_command, disconnect_command, fetch_command, cancel_command, send_command>;

struct progress_options {
  unsigned spin_rounds = 0;
  duration driver_spin{};
  std::uint32_t chunk_bytes = 0;
};

class progress_loop {
 public:
  progress_loop(ucx_worker worker, ucx_arena arena, ucx_listener listener, own_identity self,
                const handler_table& handlers, node_statistics& statistics, progress_options options);

  // Fails where UCX refuses the handlers; once, before `run`.
  result<void> prepare();

  // Until `stop`; then ends what is in flight and closes every connection.
  void run();

  // As transport::drive.
  void drive(const std::function<void()>& begin, arrival& until);

  // Any thread.
  void submit(command what);
  // Of what `begin` of a `drive` fetches: see fetches.
  bool finish_at_once(std::unique_ptr<fetch_operation>& operation);
  std::unique_ptr<fetch_operation> new_operation() { return fetches_.stock().take(); }
  void stop();

  std::span<std::byte> arena() const { return arena_.bytes(); }

 private:
  static ucs_status_t on_active_message(message_kind kind, void* argument, const void* header,
                                        std::size_t header_bytes, void* data, std::size_t bytes,
                                        const ucp_am_recv_param_t* param);
  template <message_kind Kind>
  result<void> handle();

  void dispatch(message_kind kind, connection& from, std::span<const std::byte> header,
                std::span<const std::byte> payload);

  bool turn(time_point now);
  bool take_commands(time_point now);
  void execute(connect_command& what, time_point now);
  void execute(disconnect_command& what, time_point now);
  void execute(fetch_command& what, time_point now);
  void execute(cancel_command& what, time_point now);
  void execute(send_command& what, time_point now);

  time_point next_wake(time_point now) const;
  void sleep(std::unique_lock<std::mutex>& moving, time_point now);
  void drive_until(arrival& until);
  void follow(const arrival& until);
  void sleep_as_guest(arrival& until, time_point now);
  // Leaves the loop to its own thread, which sleeps on where nothing is to be done at once.
  void hand_back();
  bool rest_is_quiet();
  void shut_down();

  ucx_worker worker_;
  ucx_arena arena_;
  const handler_table& handlers_;
  node_statistics& statistics_;
  progress_options options_;
  submission_queue<command> queue_;
  yielding_spin spin_;  // under `moving_`
  sleeping_place place_;
  std::mutex moving_;  // held by whoever moves things
  std::atomic<std::thread::id> mover_{};
  std::atomic<unsigned> followers_{0};  // drivers that wait for another thread's moves
  time_point own_wake_{};               // the own thread sleeps no longer than that; under `moving_`
  std::vector<command> taken_;
  std::atomic<bool> stopping_{false};

  active_sender sender_;
  connections connections_;
  fetches fetches_;
  pushes pushes_;
  messages messages_;
};

}  // namespace weft::fabric
