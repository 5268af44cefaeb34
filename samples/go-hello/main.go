// Says hello from another language's toolchain: GOOS=wasip1 GOARCH=wasm. With --hold it then stays.
package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"
)

func main() {
	fmt.Printf("hello from go on %s/%s\n", runtime.GOOS, runtime.GOARCH)
	for _, argument := range os.Args[1:] {
		fmt.Printf("argument: %s\n", argument)
	}
	for slices.Contains(os.Args[1:], "--hold") {
		time.Sleep(time.Hour)
	}
}
