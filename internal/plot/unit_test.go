package plot_test

import (
	"math"
	"strings"
	"testing"

	"github.com/radixbus/radixbus/internal/plot"
)

func TestUnitsWriteThreeDigits(t *testing.T) {
	for _, tt := range []struct {
		unit plot.Unit
		v    float64
		want string
	}{
		{plot.Number, 0, "0"},
		{plot.Number, 7, "7"},
		{plot.Number, 0.25, "0.25"},
		{plot.Number, 15.23, "15.2"},
		{plot.Number, 9694.4, "9,694"},
		{plot.Number, 9_999.7, "10.0 k"},
		{plot.Number, 123_456, "123 k"},
		{plot.Number, 2_081_280, "2.08 M"},
		{plot.Number, -12.5, "−12.5"},
		{plot.Seconds, 0, "0 s"},
		{plot.Seconds, 45.12e-3, "45.1 ms"},
		{plot.Seconds, 0.99996, "1.00 s"},
		{plot.Seconds, 0.9994e-3, "999 µs"},
		{plot.Seconds, -704.84e-6, "−705 µs"},
		{plot.Seconds, 12e-9, "12.0 ns"},
		{plot.Seconds, 1e-12, "0.00 ns"},
		{plot.Seconds, 83.25, "83.2 s"},
		{plot.Elapsed, 0.1, "0.1 s"},
		{plot.Elapsed, 0, "0 s"},
		{plot.Elapsed, 42, "42 s"},
		{plot.Elapsed, 0.1 + 2.2, "2.3 s"}, // 2.3000000000000003
		{plot.Elapsed, 59.97, "1 min"},
		{plot.Elapsed, 90, "1:30 min"},
		{plot.Elapsed, 3600, "1 h"},
		{plot.Elapsed, 7505, "2:05:05 h"},
		{plot.Elapsed, -90, "−1:30 min"},
		{plot.Share, 0.69188, "69.2 %"},
		{plot.Share, 1, "100 %"},
		{plot.Share, 0.9997, "99.97 %"},
		{plot.Share, 0.0004, "0.0 %"},
		{plot.Bytes, 70.9 * (1 << 20), "70.9 MiB"},
		{plot.Bytes, 12, "12.0 B"},
		{plot.Seconds, math.NaN(), "–"},
		{plot.Number, math.Inf(1), "–"},
	} {
		if got := strings.ReplaceAll(tt.unit.Text(tt.v), "\u00a0", " "); got != tt.want {
			t.Errorf("Unit(%d).Text(%v) = %q, want %q", tt.unit, tt.v, got, tt.want)
		}
	}
}

func TestNoUnitPanicsOrWritesNonsense(t *testing.T) {
	for _, unit := range []plot.Unit{plot.Number, plot.Seconds, plot.Elapsed, plot.Share, plot.Bytes, 99} {
		for _, v := range []float64{0, 5e-324, 1e-300, 1e-9, 1, 1e9, 1e18, 1e300, math.MaxFloat64, -math.MaxFloat64} {
			if got := unit.Text(v); got == "" || strings.Contains(got, "NaN") || strings.Contains(got, "Inf") {
				t.Errorf("Unit(%d).Text(%v) = %q", unit, v, got)
			}
		}
	}
}
