// SPDX-License-Identifier: Apache-2.0

// promtext FILE...: what Prometheus itself makes of metrics. Reads each file as its server would (one that
// ends in .om is OpenMetrics, every other the text format), and lints those of the text format as
// `promtool check metrics` does. With -n it does not lint: for names that are not ours to choose. Prints
// each problem; the exit status is 1 when there was one, 2 when a file cannot be read.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

var problems int

func problem(file, format string, args ...any) {
	fmt.Printf("%s: %s\n", file, fmt.Sprintf(format, args...))
	problems++
}

// As a scrape does: every sample must parse, and no two may be of one series.
func parse(file string, text []byte) int {
	kind := "text/plain; version=0.0.4; charset=utf-8"
	if strings.HasSuffix(file, ".om") {
		kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
	}
	parser, err := textparse.New(text, kind, "", false, false, labels.NewSymbolTable())
	if err != nil {
		problem(file, "%v", err)
		return 0
	}
	seen := map[string]bool{}
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return len(seen)
		}
		if err != nil {
			problem(file, "%v", err)
			return len(seen)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var series labels.Labels
		parser.Labels(&series)
		if seen[series.String()] {
			problem(file, "twice: %s", series)
		}
		seen[series.String()] = true
	}
}

func main() {
	noLint := flag.Bool("n", false, "do not lint")
	flag.Parse()
	for _, file := range flag.Args() {
		text, err := os.ReadFile(file)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		count := parse(file, text)
		if !*noLint && !strings.HasSuffix(file, ".om") {
			found, err := promlint.New(bytes.NewReader(text)).Lint()
			if err != nil {
				problem(file, "%v", err)
			}
			for _, p := range found {
				problem(file, "%s: %s", p.Metric, p.Text)
			}
		}
		fmt.Printf("%s: %d series\n", file, count)
	}
	if problems > 0 {
		os.Exit(1)
	}
}
