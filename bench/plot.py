"""The benchmark's figures as SVG, for the README, drawn by gnuplot (package gnuplot-nox)."""
import subprocess

SCRIPT = """
set terminal svg size 900,760 font "sans,12" background rgb "white"
set output "{path}"
set multiplot layout 2,1 title "50 sessions, one machine with {cores} cores; each server with its normal durability"
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.9 noborder
set linetype 1 lc rgb "#888888"
set linetype 2 lc rgb "#0b6fa4"
set linetype 3 lc rgb "#c9b37e"
set linetype 4 lc rgb "#9dbf9e"
set logscale y 10
set xtics noenhanced scale 0
set grid ytics lc rgb "#dddddd"
set ylabel "messages relayed a second"
set key outside top right horizontal
set bmargin 3.5
plot for [i=2:{last}] $rates using i:xtic(1) title columnheader(i)
set ylabel "ms of CPU a message"
unset key
plot for [i=2:{last}] $costs using i:xtic(1) title columnheader(i)
unset multiplot
"""


def block(name, rows, names, key):
    """A gnuplot data block: one line a row, one column a server; ? where it did not run."""
    lines = ["row " + " ".join(names)]
    for row, figures in rows.items():
        label = row.replace(", 50 sessions", "").replace(", ", "\\n")
        values = [str(figures[mta][key]) if mta in figures else "?" for mta in names]
        lines.append(f'"{label}" ' + " ".join(values))
    return f"${name} << EOD\n" + "\n".join(lines) + "\nEOD\n"


def relay_rates(report, names, path):
    """Messages a second and their cost, a group of bars for each row with 50 sessions."""
    rows = {row: figures for row, figures in report["rows"].items() if "50 sessions" in row}
    script = block("rates", rows, names, "rate") + block("costs", rows, names, "cpu_ms")
    script += 'set datafile missing "?"\n'
    script += SCRIPT.format(path=path, last=len(names) + 1, cores=report["cores"])
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
