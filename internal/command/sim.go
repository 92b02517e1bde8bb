package command

import (
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/radixbus/radixbus/internal/run"
)

func (e *env) simCommand() *cobra.Command {
	var s simFlags
	var host string
	var port, n int
	c := &cobra.Command{
		Use: "sim", Short: "Run simulated engines that speak SGLang's HTTP", Args: noArgs,
		Long: "Starts simulated SGLang servers on successive ports and prints the URL of each on a line of its own.",
	}
	s.flags(c.Flags())
	c.Flags().StringVar(&host, "host", "127.0.0.1", "address to listen on")
	c.Flags().IntVar(&port, "port", 30000, "first port; 0 picks free ones")
	c.Flags().IntVar(&n, "n", 1, "engines")
	c.RunE = func(c *cobra.Command, _ []string) error {
		log, err := e.log()
		if err != nil {
			return err
		}
		if n < 1 || n > 256 {
			return &ExitError{2, fmt.Errorf("--n %d is not in 1 to 256", n)}
		}
		var parts []run.Part
		for i := range n {
			at := 0
			if port != 0 {
				at = port + i
			}
			part, url, ln, err := s.part(i, net.JoinHostPort(host, strconv.Itoa(at)), log)
			if err != nil {
				return err
			}
			defer ln.Close() //nolint:errcheck // the part has closed it, unless it never ran
			fmt.Fprintln(e.Stdout, url)
			parts = append(parts, part)
		}
		return run.All(c.Context(), parts...)
	}
	return c
}
