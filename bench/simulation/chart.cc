#include "bench/simulation/chart.h"

#include <algorithm>
#include <cstdio>

namespace postrider::simulation {

namespace {

constexpr double kWidth = 760, kHeight = 150, kLeft = 60, kTop = 30, kStep = 210;

template <class Value>
double highest(const std::vector<Sample>& samples, Value value) {
  double most = 1e-9;
  for (const Sample& sample : samples)
    most = std::max(most, value(sample));
  return most;
}

std::string text(double x, double y, const std::string& words) {
  char line[300];
  std::snprintf(line, sizeof line, "<text x=\"%.0f\" y=\"%.0f\">%s</text>\n", x, y, words.c_str());
  return line;
}

template <class Value>
std::string polyline(const std::vector<Sample>& samples, double top, double most, double horizon,
                     const char* colour, Value value) {
  std::string points;
  char point[48];
  for (const Sample& sample : samples) {
    std::snprintf(point, sizeof point, "%.1f,%.1f ", kLeft + kWidth * sample.time / horizon,
                  top + kHeight * (1 - std::min(1.0, value(sample) / most)));
    points += point;
  }
  return "<polyline fill=\"none\" stroke=\"" + std::string(colour) + "\" points=\"" + points +
         "\"/>\n";
}

std::string panel(const Series& series, double top, double horizon) {
  const bool is_rate = series.site.is_rate_limited();
  const auto set = [is_rate](const Sample& sample) { return is_rate ? sample.rate : sample.limit; };
  const auto taken = [](const Sample& sample) { return sample.taken; };
  const double most =
      std::max(is_rate ? series.site.most_rate() : 1.0, highest(series.samples, set)) * 1.1;
  char frame[200];
  std::snprintf(frame, sizeof frame,
                "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" fill=\"none\" "
                "stroke=\"#999\"/>\n",
                kLeft, top, kWidth, kHeight);
  char axis[32];
  std::snprintf(axis, sizeof axis, "%.1f", most);
  const double most_taken = is_rate ? most : highest(series.samples, taken) * 1.1;
  return text(kLeft, top - 8,
              series.site.kind +
                  ": dark: " + (is_rate ? "messages a second that are tried" : "connections") +
                  ", light: messages a second that are taken") +
         frame + text(10, top + 10, axis) + text(10, top + kHeight, "0") +
         polyline(series.samples, top, most_taken, horizon, "#9bc", taken) +
         polyline(series.samples, top, most, horizon, "#036", set);
}

}  // namespace

std::string chart(const std::vector<Series>& all, double horizon) {
  std::string svg =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"840\" height=\"" +
      std::to_string(static_cast<int>(kTop + kStep * static_cast<double>(all.size()))) +
      "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" "
      "fill=\"#fff\"/>\n";
  double top = kTop;
  for (const Series& series : all) {
    svg += panel(series, top, horizon);
    svg += text(kLeft + kWidth - 60, top + kHeight + 16,
                std::to_string(static_cast<int>(horizon / 60)) + " min");
    top += kStep;
  }
  return svg + "</svg>\n";
}

}  // namespace postrider::simulation
