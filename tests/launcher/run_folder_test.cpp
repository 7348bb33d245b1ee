#include <weft/launcher/run_folder.hpp>

#include <doctest/doctest.h>

#include "temporary_folder.hpp"
#include <sys/stat.h>
#include <unistd.h>

using namespace weft::launcher;

TEST_CASE("each cluster file has its own run folder") {
  const auto a = default_run_folder("/somewhere/a.toml");
  CHECK(a == default_run_folder("/somewhere/b/../a.toml"));
  CHECK(a != default_run_folder("/somewhere/b.toml"));
}

TEST_CASE("the run folder is for its owner only") {
  const temporary_folder scratch;
  const auto folder = scratch.path() / "run" / "0123";
  REQUIRE(create_run_folder(folder));
  REQUIRE(create_run_folder(folder));
  struct stat facts {};
  REQUIRE(stat(folder.c_str(), &facts) == 0);
  CHECK((facts.st_mode & 0777) == 0700);

  REQUIRE(chmod(folder.c_str(), 0777) == 0);
  const auto open_to_all = create_run_folder(folder);
  REQUIRE_FALSE(open_to_all);
  CHECK(open_to_all.error().code == weft::errc::io);

  const auto file = scratch.write("run/file", "");
  CHECK_FALSE(create_run_folder(file));
}

TEST_CASE("addresses are found by those who come later") {
  const temporary_folder folder;
  const auto before = read_address(folder.path(), "gateway");
  REQUIRE_FALSE(before);
  CHECK(before.error().code == weft::errc::not_found);
  REQUIRE(write_address(folder.path(), "gateway", {"127.0.0.1", 7600}));
  REQUIRE(write_address(folder.path(), "gateway", {"127.0.0.1", 7601}));
  const auto after = read_address(folder.path(), "gateway");
  REQUIRE(after);
  CHECK(after->port == 7601);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("a cluster runs once") {
  const temporary_folder folder;
  CHECK_FALSE(running_pid(folder.path()));
  {
    const auto first = pid_file::acquire(folder.path());
    REQUIRE(first);
    CHECK(running_pid(folder.path()) == getpid());
    const auto second = pid_file::acquire(folder.path());
    REQUIRE_FALSE(second);
    CHECK(second.error().context.find(std::to_string(getpid())) != std::string::npos);
    CHECK(running_pid(folder.path()) == getpid());
  }
  CHECK_FALSE(running_pid(folder.path()));
  CHECK_FALSE(std::filesystem::exists(folder.path() / "pid"));
}

TEST_CASE("a pid file left by a process that died is nobody's") {
  const temporary_folder folder;
  folder.write("pid", "1\n");
  CHECK_FALSE(running_pid(folder.path()));
  CHECK(pid_file::acquire(folder.path()));
}
