// go-github-client does with go-github what programs in Go do, and prints a line for each step.
//
// go-github-client BASE_URL OWNER/REPO, with the token in GITHUB_TOKEN.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/go-github/v88/github"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, base, fullName string) error {
	client, err := github.NewClient(
		github.WithAuthToken(os.Getenv("GITHUB_TOKEN")),
		github.WithEnterpriseURLs(base, base),
	)
	if err != nil {
		return err
	}
	owner, name, _ := strings.Cut(fullName, "/")

	repository, _, err := client.Repositories.Get(ctx, owner, name)
	if err != nil {
		return err
	}
	fmt.Println("repository", repository.GetFullName())

	// Every page, as Link leads to it.
	options := &github.IssueListByRepoOptions{ListOptions: github.ListOptions{PerPage: 2}}
	var numbers []string
	for {
		issues, response, err := client.Issues.ListByRepo(ctx, owner, name, options)
		if err != nil {
			return err
		}
		for _, issue := range issues {
			numbers = append(numbers, fmt.Sprint(issue.GetNumber()))
		}
		if response.NextPage == 0 {
			break
		}
		options.ListOptions.Page = response.NextPage
	}
	fmt.Println("issues", strings.Join(numbers, " "))

	// A write, and what it changed.
	body := "from go-github"
	comment, _, err := client.Issues.CreateComment(ctx, owner, name, 1, &github.IssueComment{Body: &body})
	if err != nil {
		return err
	}
	fmt.Println("created", comment.GetBody())
	comments, _, err := client.Issues.ListComments(ctx, owner, name, 1, nil)
	if err != nil {
		return err
	}
	fmt.Println("comments", len(comments))

	_, _, err = client.Repositories.Get(ctx, owner, "absent")
	var refused *github.ErrorResponse
	if !errors.As(err, &refused) {
		return fmt.Errorf("an absent repository gives %v", err)
	}
	fmt.Println("absent", refused.Response.StatusCode, refused.Message)
	return nil
}
