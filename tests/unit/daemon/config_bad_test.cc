// Each tests/bad_config/NN_name.toml is refused with exactly the text of NN_name.expected.
// UPDATE_GOLDEN=1 in the environment rewrites those; the difference is for review.
#include "daemon/config/config_file.h"
#include "tests/support/folder.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace fs = std::filesystem;
using namespace postrider::daemon;

namespace {

const fs::path kFolder = fs::path(postrider::test::tests_folder()) / "bad_config";

std::string contents(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<fs::path> cases() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(kFolder))
    if (entry.path().extension() == ".toml")
      found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

TEST_CASE("a wrong configuration is refused with every problem and what is allowed", "[config]") {
  const auto files = cases();
  CHECK(files.size() >= 20);
  for (const auto& file : files) {
    DYNAMIC_SECTION(file.filename().string()) {
      const auto loaded =
          parse_config(contents(file), file.filename().string(), {"mx.example.org", {}});
      CHECK_FALSE(loaded.config);
      for (const auto& problem : loaded.problems) {
        INFO(problem.key << ": " << problem.text);
        CHECK((problem.text.find("; expected ") != std::string::npos ||
               problem.text.find("; did you mean ") != std::string::npos));
        CHECK(problem.text.find("allowed,") == std::string::npos);
      }
      auto expected = file;
      expected.replace_extension(".expected");
      if (std::getenv("UPDATE_GOLDEN") != nullptr)
        std::ofstream(expected, std::ios::binary) << loaded.describe();
      CHECK(loaded.describe() == contents(expected));
    }
  }
}
